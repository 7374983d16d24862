import json
from pathlib import Path

import pytest

from fednet.security.tokens import decode_token
from tests.commands.running import run
from tests.security.certs import authority_in, enrolled


def listed(capsys: pytest.CaptureFixture[str], certs: Path) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = json.loads(run(capsys, "certs", "list", "--certs", certs, "--json").out)
    return found


def test_what_is_revoked_is_said_and_listed_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(tmp_path, "client1", authority_in(tmp_path))
    run(capsys, "certs", "token", "client1", "--certs", tmp_path)
    ran = run(capsys, "certs", "revoke", "client1", "--reason", "laptop stolen", "--certs", tmp_path)
    assert ran.code == 0
    found = listed(capsys, tmp_path)
    (certificate,) = found["certificates"]
    assert (certificate["state"], certificate["reason"]) == ("revoked", "laptop stolen")
    assert [(each["state"], each["reason"]) for each in found["tokens"]] == [
        ("revoked", "laptop stolen"),
        ("used", "laptop stolen"),
    ]
    assert ran.out.splitlines() == [
        f"revoked: certificate {certificate['fingerprint']}",
        "revoked: 1 unused token",
        "client1 takes part in nothing until `certs token client1` lets it in again",
    ]
    text = run(capsys, "certs", "list", "--certs", tmp_path).out
    assert f"{certificate['fingerprint']}  revoked  laptop stolen" in text


def test_certificates_that_are_good_are_listed_as_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enrolled(tmp_path, "client1", authority_in(tmp_path))
    assert [each["state"] for each in listed(capsys, tmp_path)["certificates"]] == ["valid"]


def test_a_fingerprint_that_is_revoked_already_stays_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = authority_in(tmp_path)
    enrolled(tmp_path, "client1", authority)
    old = listed(capsys, tmp_path)["certificates"][0]["fingerprint"]
    enrolled(tmp_path, "client1", authority)
    first = run(capsys, "certs", "revoke", old, "--reason", "copied", "--certs", tmp_path)
    assert first.out == f"revoked: certificate {old}\n"
    again = run(capsys, "certs", "revoke", old, "--reason", "another", "--certs", tmp_path)
    assert again.out == "it was revoked already; the first reason stays\n"
    assert {each["state"] for each in listed(capsys, tmp_path)["certificates"]} == {"valid", "revoked"}


@pytest.mark.parametrize(
    ("subject", "reason", "complaint"),
    [("nobody", "why", "name 'nobody'"), ("client1", "", "--reason"), ("ff" * 32, "why", "certificate ffff")],
)
def test_what_cannot_be_revoked_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subject: str, reason: str, complaint: str
) -> None:
    enrolled(tmp_path, "client1", authority_in(tmp_path))
    ran = run(capsys, "certs", "revoke", subject, "--reason", reason, "--certs", tmp_path)
    assert ran.code == 2
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1


def test_nothing_is_written_where_there_is_no_authority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "certs", "revoke", "client1", "--reason", "why", "--certs", tmp_path)
    assert (ran.code, "no authority there" in ran.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_an_observers_token_is_listed_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority_in(tmp_path)
    ran = run(capsys, "certs", "token", "auditor", "--role", "observer", "--certs", tmp_path)
    assert decode_token(ran.out).name == "auditor"
    assert [each["role"] for each in listed(capsys, tmp_path)["tokens"]] == ["observer"]
