import subprocess
import sys
from pathlib import Path

import pytest

from fednet.commands.main import COMMANDS
from tests.commands.running import run

ROOT = Path(__file__).resolve().parents[2]


def test_help_names_every_command_and_imports_no_torch() -> None:
    code = (
        "import sys; from fednet.commands.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'asyncio'} & set(sys.modules), 'too much is imported'"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(name in found.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_commands_help_imports_no_torch(name: str) -> None:
    code = (
        f"import sys; from fednet.commands.main import main\n"
        f"try: main(['{name}', '--help'])\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "assert 'torch' not in sys.modules, 'torch is imported'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "fly").code == 2


def test_bad_input_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "evaluate", "--model", "nowhere.pth", "--data", "nowhere")
    assert ran.code == 2
    assert ran.err.splitlines() == ["Error: model nowhere.pth; found no such file. Check the path"]
