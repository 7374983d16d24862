"""The click group: loads each command's module only when it is used, and turns errors into one line and a code."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from fednet import failpoints
from fednet.errors import FednetError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMPLETION = "_FEDNET_COMPLETE"  # set by the scripts of fednet.commands.completion, and where one is asked for

# name -> (module, one line for --help). The line stands here so that --help imports no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "certs": ("fednet.commands.certs", "The certificate authority: init, token, list, revoke, renew, rotate, trust."),
    "coordinator": ("fednet.commands.coordinator", "Serve rounds: start, status."),
    "dashboard": ("fednet.commands.dashboard", "A live web page of a run, going on or ended."),
    "demo": ("fednet.commands.demo", "The whole system on this machine in under two minutes."),
    "doctor": ("fednet.commands.doctor", "What stands between this hospital and its coordinator."),
    "evaluate": ("fednet.commands.evaluate", "Judge a saved model on a folder of scans."),
    "export": ("fednet.commands.export", "Hand a saved model on: safetensors, ONNX, TorchScript."),
    "gains": ("fednet.commands.gains", "What each site gains from joining, and from a model tuned to it."),
    "predict": ("fednet.commands.predict", "What a saved model says of scans: pictures, DICOM, NIfTI."),
    "bench": ("fednet.commands.bench", "Measure this machine beside its own limit."),
    "runs": ("fednet.commands.runs", "Look at runs: list, show, export, verify, card, report."),
    "simulate": ("fednet.commands.simulate", "Attacks against aggregation rules, on one machine."),
    "split": ("fednet.commands.split", "Split a data set into hospitals and the server's unseen test set."),
    "train-local": (
        "fednet.commands.train_local",
        "Train without federation, by the same code: the baseline.",
    ),
    "worker": ("fednet.commands.worker", "Take part as a hospital: join, consent, inspect."),
}


class LazyGroup(click.Group):
    """A click group whose commands are imported when they run, so `--help` never waits for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"{module.__name__}.command is no click command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return the commands that begin like this, without importing any of them, or this group's own options."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=COMMANDS[name][1]) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
def cli(debug: bool) -> None:
    """FedNet trains one brain-tumour MRI classifier across hospitals; no scan leaves a hospital."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed while running, 2 wrong usage or bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a hospital's reason may have letters that this terminal lacks
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    try:
        if failpoints.VARIABLE in os.environ:
            failpoints.arm(os.environ[failpoints.VARIABLE])
        if COMPLETION in os.environ:
            from fednet.commands import completion

            completion.install()
        result: Any = cli.main(arguments, prog_name="cli.py", complete_var=COMPLETION, standalone_mode=False)
    except FednetError as exc:
        if "--debug" in arguments:
            raise
        click.echo(f"Error: {exc}", err=True)
        return exc.exit_code
    except click.exceptions.Abort:
        return 130
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0
