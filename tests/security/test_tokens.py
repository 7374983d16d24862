import base64
import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import msgpack
import pytest

from fednet.config import WorkerName
from fednet.errors import CredentialError, Refused, StorageError
from fednet.security.identity import PeerIdentity, Role
from fednet.security.ledger import sha256_hex
from fednet.security.tokens import JoinToken, TokenLedger, decode_token
from tests.security.certs import DAY, NOW

TOKEN = JoinToken(b"certificate" * 40, "centre.example", 7733, WorkerName("client1"), b"s" * 32)
NAME = WorkerName("client1")
IDENTITY = PeerIdentity(NAME, Role.WORKER, "ff" * 32, NOW + DAY)


def test_a_token_survives_pasting_with_line_breaks() -> None:
    text = TOKEN.encode()
    assert decode_token(f"  {text[:50]}\n{text[50:]}\n") == TOKEN


@pytest.mark.parametrize("cut", [1, 10, 300])
def test_a_token_cut_short_says_so(cut: int) -> None:
    with pytest.raises(CredentialError, match="cut short or mistyped"):
        decode_token(TOKEN.encode()[:-cut])


def test_a_mistyped_token_says_so() -> None:
    text = TOKEN.encode()
    with pytest.raises(CredentialError, match="cut short or mistyped"):
        decode_token(text[:100] + ("A" if text[100] != "A" else "B") + text[101:])


@pytest.mark.parametrize("text", ["", "hello", "fednet9.abc", "fednet1."])
def test_something_else_is_no_token(text: str) -> None:
    with pytest.raises(CredentialError):
        decode_token(text)


def test_a_token_of_another_version_is_named_as_such() -> None:
    with pytest.raises(CredentialError, match=r"another FedNet version \(fednet9\.\)"):
        decode_token("fednet9.abc")


@pytest.mark.parametrize(
    "fields",
    [
        [2**40, "h", 1, None, b"s"],  # bytes(2**40) would take all memory
        [b"ca", 5, 1, None, b"s"],
        [b"ca", "h", 0, None, b"s"],
        [b"ca", "h", float("inf"), None, b"s"],
        [b"ca", "h", 1, "../root", b"s"],
        [b"ca", "h", 1, 7, b"s"],
        [b"ca", "h", 1, None],
    ],
)
def test_a_forged_token_with_a_right_checksum_is_refused(fields: list[object]) -> None:
    body = msgpack.packb(fields)
    coded = base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:4] + body).decode().rstrip("=")
    with pytest.raises(CredentialError):
        decode_token("fednet1." + coded)


def test_a_token_shows_no_secret_when_it_is_logged() -> None:
    assert "sss" not in repr(TOKEN)


def test_a_token_is_good_once(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)
    ledger.redeem(secret, NAME, b"key", now=NOW)
    with pytest.raises(Refused, match="used already"):
        ledger.redeem(secret, NAME, b"another key", now=NOW)


def test_the_same_key_may_ask_again_because_its_answer_may_have_been_lost(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)
    assert ledger.redeem(secret, NAME, b"key", now=NOW) is None
    assert ledger.redeem(secret, NAME, b"key", now=NOW) is None
    ledger.record(IDENTITY, b"certificate", redeemed=secret, now=NOW)
    assert ledger.redeem(secret, NAME, b"key", now=NOW) == b"certificate"
    with pytest.raises(Refused, match="expired"):
        ledger.redeem(secret, NAME, b"key", now=NOW + 2 * DAY)


def test_a_certificate_that_has_ended_is_no_answer_any_more(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=60 * DAY, now=NOW)
    ledger.redeem(secret, NAME, b"key", now=NOW)
    issued = replace(IDENTITY, fingerprint=sha256_hex(b"certificate"), not_after=NOW + 30 * DAY)
    ledger.record(issued, b"certificate", redeemed=secret, now=NOW)
    assert ledger.redeem(secret, NAME, b"key", now=NOW + 29 * DAY) == b"certificate"
    assert ledger.redeem(secret, NAME, b"key", now=NOW + 31 * DAY) is None


@pytest.mark.parametrize(
    ("name", "later", "code"),
    [("client2", 0.0, "token-name"), ("client1", 25.0, "token-expired"), ("client1", 23.0, None)],
)
def test_a_token_is_bound_to_a_name_and_a_day(tmp_path: Path, name: str, later: float, code: str | None) -> None:
    ledger = TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)
    moment = NOW + timedelta(hours=later)
    if code is None:
        ledger.redeem(secret, WorkerName(name), b"key", now=moment)
        return
    with pytest.raises(Refused) as caught:
        ledger.redeem(secret, WorkerName(name), b"key", now=moment)
    assert caught.value.code == code


def test_a_guess_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        TokenLedger(tmp_path).redeem(b"guess" * 8, NAME, b"key", now=NOW)
    assert caught.value.code == "token-unknown"


def test_of_many_redeemers_at_once_exactly_one_wins(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)

    together = Barrier(100)

    def redeem(number: int) -> bool:
        together.wait()
        try:
            ledger.redeem(secret, NAME, f"key {number}".encode(), now=NOW)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(100) as pool:
        assert sum(pool.map(redeem, range(100))) == 1


def test_a_token_issued_by_another_process_is_known_at_once(tmp_path: Path) -> None:
    running = TokenLedger(tmp_path)
    main = Path(__file__).resolve().parents[2] / "cli.py"
    for command in (["init"], ["token", "client1"]):
        arguments = [sys.executable, str(main), "certs", *command, "--certs", str(tmp_path)]
        text = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stdout
    running.redeem(decode_token(text).secret, NAME, b"key", now=NOW)


def test_a_broken_ledger_is_named(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    (tmp_path / "tokens.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match=r"tokens\.sqlite"):
        ledger.redeem(b"s", NAME, b"key", now=NOW)
    with pytest.raises(StorageError, match=r"tokens\.sqlite"):
        TokenLedger(tmp_path)


def test_secrets_are_stored_as_hashes_in_a_private_file(tmp_path: Path) -> None:
    secret = TokenLedger(tmp_path).issue(NAME, lifetime=DAY, now=NOW)
    database = tmp_path / "tokens.sqlite"
    assert secret not in database.read_bytes()
    assert secret.hex().encode() not in database.read_bytes()
    assert database.stat().st_mode & 0o777 == 0o600


def test_tokens_and_certificates_are_listed(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    ledger.redeem(ledger.issue(NAME, lifetime=DAY, now=NOW), NAME, b"key", now=NOW)
    ledger.issue(WorkerName("client2"), lifetime=DAY, now=NOW + DAY)
    ledger.record(IDENTITY, b"certificate", redeemed=None, now=NOW)
    assert [(row.name, row.redeemed is not None) for row in ledger.tokens()] == [("client2", False), ("client1", True)]
    assert [row.fingerprint for row in ledger.certificates()] == ["ff" * 32]
