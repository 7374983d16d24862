from pathlib import Path

import click
import pytest

from fednet.security.passphrase import VARIABLE
from tests.commands.running import run

WORDS = "correct horse battery"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "words"
    found.touch(mode=0o600)
    found.write_text(WORDS + "\n")
    return found


def test_a_passphrase_from_a_file_or_the_environment_opens_the_authority(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    certs = tmp_path / "certs"
    made = run(capsys, "certs", "init", "--certs", certs, "--passphrase-file", file)
    assert (made.code, "Its ca.key is encrypted" in made.out) == (0, True)
    assert run(capsys, "certs", "token", "client1", "--certs", certs, "--passphrase-file", file).code == 0
    without = run(capsys, "certs", "token", "client1", "--certs", certs)
    assert without.code == 2
    assert "found it encrypted, and no passphrase. Give it by --passphrase-file FILE" in without.err
    monkeypatch.setenv(VARIABLE, WORDS)
    assert run(capsys, "certs", "token", "client1", "--certs", certs).code == 0
    monkeypatch.setenv(VARIABLE, "wrong horse battery")
    wrong = run(capsys, "certs", "token", "client1", "--certs", certs)
    assert (wrong.code, "found another passphrase on it" in wrong.err) == (2, True)
    for said in (made, without, wrong):
        assert "horse" not in said.out + said.err


def test_a_coordinator_says_so_before_it_looks_at_anything_else(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "certs", "init", "--certs", tmp_path / "certs", "--passphrase-file", file)
    monkeypatch.chdir(tmp_path)
    ran = run(capsys, "coordinator", "start", "--run-dir", "run", "--workers", 3)
    assert (ran.code, "found it encrypted, and no passphrase" in ran.err) == (2, True)
    assert not (tmp_path / "run").exists()


def test_a_passphrase_can_be_typed(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []

    def prompt(text: str, **how: object) -> str:
        asked.append(how)
        return WORDS

    monkeypatch.setattr(click, "prompt", prompt)
    certs = tmp_path / "certs"
    assert run(capsys, "certs", "init", "--certs", certs, "--passphrase").code == 0
    assert asked == [{"hide_input": True, "confirmation_prompt": True, "err": True}]
    assert run(capsys, "certs", "token", "client1", "--certs", certs, "--passphrase-file", file).code == 0
    both = run(capsys, "certs", "init", "--certs", tmp_path / "more", "--passphrase", "--passphrase-file", file)
    assert (both.code, "give one of them" in both.err.lower()) == (2, True)


def test_rotation_keeps_the_passphrase(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certs = tmp_path / "certs"
    run(capsys, "certs", "init", "--certs", certs, "--passphrase-file", file)
    assert run(capsys, "certs", "rotate", "--begin", "--certs", certs).code == 2
    for step in ("--begin", "--finish"):
        assert run(capsys, "certs", "rotate", step, "--certs", certs, "--passphrase-file", file).code == 0
    assert run(capsys, "certs", "token", "client1", "--certs", certs, "--passphrase-file", file).code == 0
    assert b"ENCRYPTED" in (certs / "authority" / "ca.key").read_bytes()
