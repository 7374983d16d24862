from datetime import UTC, datetime
from pathlib import Path

import pytest

from fednet.commands.door import Door, address_of
from fednet.config import WorkerName
from fednet.errors import BadInput, ConnectionLost, Refused
from fednet.security.authority import open_or_create_authority
from fednet.security.loopback import LoopbackGrant, find_loopback_token
from fednet.security.tokens import JoinToken


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("centre.example", ("centre.example", 7733)),
        ("centre.example:80", ("centre.example", 80)),
        ("10.0.0.5:7734", ("10.0.0.5", 7734)),
        ("[::1]:7734", ("::1", 7734)),
        ("[2001:db8::5]", ("2001:db8::5", 7733)),
        ("2001:db8::5", ("2001:db8::5", 7733)),
        (None, ("127.0.0.1", 7733)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str | None, address: tuple[str, int]) -> None:
    assert address_of(text, None) == address


@pytest.mark.parametrize("text", ["", ":7733", "host:", "host:0", "host:70000", "host:port"])
def test_what_is_no_address_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(BadInput, match="HOST or HOST:PORT"):
        address_of(text, None)


async def test_a_token_that_a_dead_coordinator_left_is_no_reason_to_give_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by bench chaos: a worker read it just before the next coordinator had left its own."""
    authority = open_or_create_authority(tmp_path, now=datetime.now(UTC))
    grant = LoopbackGrant(tmp_path, port=7733, authority_der=authority.certificate_der)
    grant.leave()
    door = Door(tmp_path, WorkerName("client1"), "127.0.0.1", 7733, None)

    async def refuse(token: JoinToken) -> None:
        raise Refused("token-unknown", "join token is unknown to this coordinator")

    monkeypatch.setattr(door, "_enrol", refuse)
    with pytest.raises(ConnectionLost, match="has just been started again"):
        await door.connect()
    given = find_loopback_token(tmp_path, 7733)
    asked = Door(tmp_path, WorkerName("client1"), "127.0.0.1", 7733, given)
    monkeypatch.setattr(asked, "_enrol", refuse)
    with pytest.raises(Refused):
        await asked.connect()
