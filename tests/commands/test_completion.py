"""Completion is asked for as the shells do it, and then by a key in real shells on a terminal."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READY = "rea''dy"  # what is typed is echoed as well: only its answer has no quotes
SHELLS = {
    "bash": (["bash", "--norc", "-i"], ""),
    "zsh": (["zsh", "-f", "-i"], "autoload -Uz compinit && compinit -u -D\n"),
}


def asked(words: str, place: int, *, by: str = "bash") -> list[str]:
    """Return the lines of the answer to a key pressed in the word at this place."""
    environment = os.environ | {"COMP_WORDS": words, "COMP_CWORD": str(place), "_FEDNET_COMPLETE": f"{by}_complete"}
    answer = subprocess.run(
        [sys.executable, "cli.py"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return answer.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "place", "expected"),
    [
        ("cli.py cert", 1, ["plain,certs"]),
        ("cli.py worker in", 2, ["plain,inspect"]),
        ("cli.py coordinator start --keep", 3, ["plain,--keep-checkpoints", "plain,--keep-updates"]),
        ("cli.py worker join --log-format ", 4, ["plain,text", "plain,json"]),
        ("cli.py worker join --data cl", 4, ["file,cl"]),
        ("cli.py --de", 1, ["plain,--debug"]),
    ],
)
def test_commands_options_and_choices_are_completed(words: str, place: int, expected: list[str]) -> None:
    assert asked(words, place) == expected


def test_zsh_gets_a_line_of_help_with_each_command() -> None:
    assert asked("cli.py doc", 1, by="zsh") == [
        "plain",
        "doctor",
        "What stands between this hospital and its coordinator.",
    ]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("python cli.py doct", "doctor"),
        (f"cd / && python {ROOT}/cli.py coordinator start --keep-c", "--keep-checkpoints"),
        ("python3 ./cli.py worker join --log-format j", "json"),
        ("python3 ./cli.py split tests/comm", "tests/commands/"),
        ("python README", "README.md"),
    ],
)
def test_a_tab_completes_in_a_real_shell(shell: str, typed: str, shown: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    with shell_on_a_terminal(shell, home=tmp_path) as keys:
        keys.type(f'eval "$(_FEDNET_COMPLETE={shell}_source {sys.executable} cli.py)" && echo {READY}\n')
        keys.wait_for("ready")
        *before, last = typed.split("&& ")
        if before:
            keys.type(f"{before[0]}&& echo {READY}\n")
            keys.wait_for("ready")
        keys.type(f"{last}\t")
        keys.wait_for(f"{last.rsplit(' ', 1)[0]} {shown}")


def test_another_cli_py_is_not_run_by_a_tab(tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text("open('was_run', 'w')\n")
    with shell_on_a_terminal("bash", home=tmp_path) as keys:
        keys.type(f'eval "$(_FEDNET_COMPLETE=bash_source {sys.executable} cli.py)"; cd {tmp_path}; echo {READY}\n')
        keys.wait_for("ready")
        keys.type("python cli.py spl\t\x15")  # control-u: the line is thrown away
        keys.type(f"echo af''ter {READY}\n")
        keys.wait_for("after ready")
    assert not (tmp_path / "was_run").exists()


class Keys:
    """Hands that type into a terminal, and eyes."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._seen = ""

    def type(self, text: str) -> None:
        """Type this, from here on looking only at what comes."""
        self._seen = ""
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str, *, within_s: float = 30.0) -> None:
        """Wait until this stands there."""
        deadline = time.monotonic() + within_s
        while text not in self._shown():
            assert time.monotonic() < deadline, f"{text!r} is not in {self._seen!r}"
            if select.select([self._terminal], [], [], 0.1)[0]:
                self._seen += os.read(self._terminal, 65536).decode(errors="replace")

    def _shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x07|.\x08", "", self._seen)


@contextmanager
def shell_on_a_terminal(name: str, *, home: Path) -> Iterator[Keys]:
    """Run an interactive shell in the checkout, with no settings of anybody's."""
    command, begins = SHELLS[name]
    ours, theirs = pty.openpty()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(home), "TERM": "xterm", "PS1": "$ ", "COLUMNS": "200", "LANG": "C.UTF-8"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as shell:
        os.close(theirs)
        try:
            keys = Keys(ours)
            keys.type(f"{begins}echo {READY}\n")
            keys.wait_for("ready")
            yield keys
        finally:
            shell.kill()
            os.close(ours)
