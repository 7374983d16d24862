"""The README names every file, every command and every option, so it cannot fall behind the code."""

import subprocess
from pathlib import Path

import click
import pytest

from fednet.commands.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def product_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [
        name for name in listed.stdout.split() if not name.startswith("tests/") and not name.endswith("__init__.py")
    ]


def leaf_commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli)
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", each) for sub, each in command.commands.items()]
        else:
            found.append((name, command))
    return found


@pytest.mark.parametrize("name", product_files())
def test_every_python_file_is_named(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize(
    "prototype", ["fl_server.py", "fl_client.py", "models/xray_model.py", "split_clients.py", "data_utils.py"]
)
def test_every_prototype_file_is_accounted_for(prototype: str) -> None:
    assert f"`{prototype}`" in README


@pytest.mark.parametrize(
    ("name", "command"), leaf_commands(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_and_option_is_described(name: str, command: click.Command) -> None:
    assert f"cli.py {name}" in README
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert any(f"`{option}" in README for option in parameter.opts), f"{name} {parameter.opts}"


def test_the_two_lines_that_set_everything_up_are_there() -> None:
    assert "pip install -r requirements.txt && python cli.py demo\n" in README
    assert "pip install -r requirements.txt && python -m pytest\n" in README
