import json
from pathlib import Path

import pytest

from fednet.security.tokens import decode_token
from tests.commands.running import run
from tests.security.certs import NOW, authority_in


def test_a_token_is_all_that_is_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "certs", "init", "--certs", tmp_path).code == 0
    ran = run(capsys, "certs", "token", "client7", "--certs", tmp_path, "--host", "centre.example")
    token = decode_token(ran.out)
    assert (token.name, token.host, token.port) == ("client7", "centre.example", 7733)
    assert "good once, for 24 hours" in ran.err


def test_tokens_are_listed_without_their_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "certs", "init", "--certs", tmp_path)
    token = run(capsys, "certs", "token", "client7", "--certs", tmp_path).out
    ran = run(capsys, "certs", "list", "--certs", tmp_path, "--json")
    assert [(row["name"], row["state"]) for row in json.loads(ran.out)["tokens"]] == [("client7", "open")]
    assert decode_token(token).secret.hex() not in ran.out


def test_a_coordinators_certificate_is_shown_with_role_and_hosts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority_in(tmp_path).ensure_coordinator(["centre.example"], now=NOW)
    shown = json.loads(run(capsys, "certs", "show", tmp_path / "coordinator" / "cert.pem", "--json").out)
    assert (shown["role"], shown["hosts"][-1]) == ("coordinator", "::1")
    assert "centre.example" in shown["hosts"]


def test_a_token_leads_to_the_coordinators_public_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority_in(tmp_path).ensure_coordinator(["centre.example"], now=NOW)
    ran = run(capsys, "certs", "token", "client7", "--certs", tmp_path)
    assert decode_token(ran.out).host == "centre.example"
    assert "--public-host" not in ran.err


@pytest.mark.parametrize(
    ("options", "warning"),
    [([], "leads to this machine only"), (["--host", "centre.example"], "is not in the certificate yet")],
)
def test_a_token_that_no_hospital_could_use_yet_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], warning: str
) -> None:
    authority_in(tmp_path)
    ran = run(capsys, "certs", "token", "client7", "--certs", tmp_path, *options)
    assert ran.code == 0
    assert warning in ran.err and "--public-host" in ran.err


def test_a_certificate_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "certs", "init", "--certs", tmp_path)
    ran = run(capsys, "certs", "show", tmp_path / "authority" / "ca.pem")
    assert "FedNet authority" in ran.out and "fingerprint" in ran.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["token", "a/b"], "worker name"),
        (["token", "client1"], "certs init"),
        (["show", "nothing"], "no PEM"),
        (["list"], "Check --certs"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    extra = [] if arguments[0] == "show" else ["--certs", str(tmp_path)]
    ran = run(capsys, "certs", *arguments, *extra)
    assert ran.code == 2
    assert complaint in ran.err
    assert list(tmp_path.iterdir()) == []
    assert len(ran.err.splitlines()) == 1


def test_a_second_authority_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "certs", "init", "--certs", tmp_path)
    assert "exists already" in run(capsys, "certs", "init", "--certs", tmp_path).err
