"""One file per command of cli.py."""
