"""Runs a command in this process and returns what it printed, for tests."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fednet.commands.main import main


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run `cli.py ARGUMENTS`."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    code = stopped.value.code
    assert isinstance(code, int)
    return Ran(code, captured.out, captured.err)
