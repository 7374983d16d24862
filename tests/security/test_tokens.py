from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from fednet.config import WorkerName
from fednet.errors import CredentialError, Refused
from fednet.security.tokens import JoinToken, TokenLedger, decode_token
from tests.security.certs import DAY, NOW

TOKEN = JoinToken(b"certificate" * 40, "centre.example", 7733, WorkerName("client1"), b"s" * 32)
NAME = WorkerName("client1")


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


def test_a_token_is_good_once(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)
    ledger.redeem(secret, NAME, b"key", now=NOW)
    with pytest.raises(Refused, match="used already"):
        ledger.redeem(secret, NAME, b"another key", now=NOW)


def test_the_same_key_may_ask_again_because_its_answer_may_have_been_lost(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)
    ledger.redeem(secret, NAME, b"key", now=NOW)
    ledger.redeem(secret, NAME, b"key", now=NOW)
    with pytest.raises(Refused, match="expired"):
        ledger.redeem(secret, NAME, b"key", now=NOW + 2 * DAY)


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

    def redeem(number: int) -> bool:
        try:
            ledger.redeem(secret, NAME, f"key {number}".encode(), now=NOW)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(redeem, range(100))) == 1


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
    ledger.record_certificate(NAME, "ff" * 32, now=NOW, expires=NOW + DAY)
    assert [(row.name, row.redeemed is not None) for row in ledger.tokens()] == [("client2", False), ("client1", True)]
    assert [row.fingerprint for row in ledger.certificates()] == ["ff" * 32]
