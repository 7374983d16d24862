"""The command line of FedNet: `python cli.py --help`."""

from fednet.commands.main import main

if __name__ == "__main__":
    main()
