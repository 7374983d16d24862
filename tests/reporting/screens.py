"""Terminals for tests: what is drawn goes to a text, and somebody seems to look at it."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from types import MappingProxyType

from rich.console import Console

NOTHING: Mapping[str, str] = MappingProxyType({})


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(*, width: int = 80, height: int = 40, environment: Mapping[str, str] = NOTHING) -> Console:
    """Return a console on a terminal of this size, whatever the tests' own is."""
    return Console(
        file=Terminal(),
        force_terminal=True,
        force_interactive=True,
        width=width,
        height=height,
        highlight=False,
        _environ={"TERM": "xterm-256color", **environment},
    )


def drawn(console: Console) -> str:
    """Return all that was drawn, without colours and movements of the cursor."""
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
