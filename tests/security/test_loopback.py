from pathlib import Path

import pytest

from fednet.errors import CredentialError
from fednet.security.loopback import LoopbackGrant, find_loopback_token, is_loopback, loopback_path


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_addresses(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.0.2.1", "::ffff:10.0.0.1", "fe80::1%eth0", "localhost", ""])
def test_other_addresses_are_not(address: str) -> None:
    assert not is_loopback(address)


def test_the_token_opens_only_from_loopback(tmp_path: Path) -> None:
    grant = LoopbackGrant(tmp_path, port=1, authority_der=b"ca")
    grant.leave()
    token = find_loopback_token(tmp_path, 1)
    assert token is not None
    assert token.name is None
    assert grant.accepts(token.secret, "127.0.0.1")
    assert not grant.accepts(token.secret, "192.0.2.1")
    assert not grant.accepts(b"guess", "127.0.0.1")


def test_the_token_is_private_and_goes_with_its_coordinator(tmp_path: Path) -> None:
    grant = LoopbackGrant(tmp_path, port=1, authority_der=b"ca")
    grant.leave()
    assert loopback_path(tmp_path, 1).stat().st_mode & 0o777 == 0o600
    grant.remove()
    grant.remove()
    assert find_loopback_token(tmp_path, 1) is None


def test_a_coordinator_removes_only_its_own_token(tmp_path: Path) -> None:
    first, second = (LoopbackGrant(tmp_path, port=1, authority_der=b"ca") for _ in range(2))
    first.leave()
    second.leave()
    first.remove()
    assert find_loopback_token(tmp_path, 1) is not None


def test_a_garbled_token_does_not_stop_a_coordinator_from_stopping(tmp_path: Path) -> None:
    grant = LoopbackGrant(tmp_path, port=1, authority_der=b"ca")
    grant.leave()
    loopback_path(tmp_path, 1).write_bytes(b"\xff")
    grant.remove()
    with pytest.raises(CredentialError, match="join token"):
        find_loopback_token(tmp_path, 1)


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    LoopbackGrant(tmp_path, port=1, authority_der=b"ca").leave()
    loopback_path(tmp_path, 1).chmod(0o644)
    with pytest.raises(CredentialError):
        find_loopback_token(tmp_path, 1)
