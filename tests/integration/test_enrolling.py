"""Tokens at a running coordinator: used, expired, another's, replayed, raced for, and guessed."""

import asyncio
import collections
import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fednet.bench.puppet import Puppet
from fednet.config import WorkerName
from fednet.protocol import limits
from fednet.protocol.messages import Enrolled, EnrolRequested, Message
from fednet.security.contexts import worker_context
from fednet.security.enrolment import credentials_in, make_request
from fednet.security.identity import identity_of
from fednet.security.tokens import SECRET_BYTES, TokenLedger
from tests.integration.strangers import Centre, centre, code_of, fresh_address, say, take_part
from tests.security.certs import enrolled

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="strangers need addresses of their own: 127.0.0.2 and so on"),
]

DAY = timedelta(days=1)
NAME = WorkerName("stranger")
MANY = ("--unidentified", 1000, "--per-address", 1000)  # so that it is enrolment that limits them


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with centre(tmp_path_factory.mktemp("enrolling"), *MANY) as found:
        yield found


def token(site: Centre, *, name: str = NAME, ago: timedelta = timedelta()) -> bytes:
    """Return the secret of a token that was given out so long ago, for a day."""
    return TokenLedger(site.certs).issue(WorkerName(name), lifetime=DAY, now=datetime.now(UTC) - ago)


def request(folder: Path) -> bytes:
    """Return a signing request of the key in this folder, which is made where there is none."""
    return make_request(credentials_in(folder, NAME))


async def ask(site: Centre, asked: EnrolRequested, *, address: str | None = None) -> tuple[list[Message], str]:
    return await say(site, site.context(), asked, address=address)


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[Centre]:
    """A coordinator of two rounds with two workers."""
    with centre(tmp_path, *MANY, "--workers", 2, "--rounds", 2) as found:
        yield found


async def taking_part(site: Centre) -> list[Puppet]:
    """Let two workers join."""
    contexts = [worker_context(enrolled(site.certs, name, site.authority)) for name in ("client1", "client2")]
    puppets = [await Puppet.joined(site.port, context) for context in contexts]
    for puppet in puppets:
        puppet.link.start_heartbeats()
    return puppets


async def test_a_token_is_good_once_and_its_replay_gives_nobody_else_anything(site: Centre, tmp_path: Path) -> None:
    asked = EnrolRequested(name=NAME, secret=token(site), request=request(tmp_path / "own"))
    said, peer = await ask(site, asked)
    assert isinstance(said[0], Enrolled)
    assert identity_of(said[0].certificate).name == NAME
    await asyncio.to_thread(site.wait_for, f"{peer}: enrolled as {NAME}")
    again, _ = await ask(site, asked)
    assert again == said, "a replay of the same bytes gets the same certificate, which is worth nothing without its key"
    stolen = EnrolRequested(name=NAME, secret=asked.secret, request=request(tmp_path / "thief"))
    said, peer = await ask(site, stolen)
    assert code_of(said) == "token-used"
    assert f"{peer}: enrolment as '{NAME}' refused (token-used)" in site.log()


@pytest.mark.parametrize("code", ["token-expired", "token-name", "token-unknown", "token-revoked"])
async def test_a_token_that_is_not_good_is_refused_with_its_own_code_and_line(
    site: Centre, tmp_path: Path, code: str
) -> None:
    secret = {
        "token-expired": lambda: token(site, ago=2 * DAY),
        "token-name": lambda: token(site, name="another"),
        "token-unknown": lambda: secrets.token_bytes(SECRET_BYTES),
        "token-revoked": lambda: token(site, name=NAME),
    }[code]()
    if code == "token-revoked":
        await asyncio.to_thread(site.revoke, NAME, "left the study")
    said, peer = await ask(site, EnrolRequested(name=NAME, secret=secret, request=request(tmp_path)))
    assert code_of(said) == code
    log = site.log()
    assert f"{peer}: enrolment as '{NAME}' refused ({code})" in log
    assert secret.hex() not in log
    assert repr(secret)[2:-1] not in log


async def test_of_a_hundred_that_redeem_one_token_at_the_same_moment_exactly_one_wins_and_the_round_goes_on(
    tmp_path: Path, at_work: Centre
) -> None:
    secret = token(at_work, name="raced-for")
    requests = await asyncio.to_thread(lambda: [request(tmp_path / str(number)) for number in range(100)])
    puppets = await taking_part(at_work)
    round_one = asyncio.create_task(take_part(puppets))
    answers = await asyncio.gather(
        *(ask(at_work, EnrolRequested(name="raced-for", secret=secret, request=each)) for each in requests)
    )
    await round_one
    outcomes = collections.Counter("won" if isinstance(said[0], Enrolled) else code_of(said) for said, _ in answers)
    assert outcomes["won"] == 1, outcomes
    assert outcomes.keys() <= {"won", "token-used", "enrolment-busy"}
    assert outcomes["token-used"] >= limits.ENROLMENTS_AT_ONCE_OF_ONE
    issued = [row for row in TokenLedger(at_work.certs).certificates() if row.name == "raced-for"]
    assert len(issued) == 1
    await take_part(puppets)
    assert await asyncio.to_thread(at_work.process.wait, 60) == 0


async def test_a_thousand_guesses_open_nothing_and_the_round_goes_on(tmp_path: Path, at_work: Centre) -> None:
    puppets = await taking_part(at_work)
    csr, address, has_closed = request(tmp_path / "guesser"), fresh_address(), asyncio.Event()
    outcomes: collections.Counter[str] = collections.Counter()

    async def guess() -> None:
        while outcomes.total() < 1000 or not has_closed.is_set():
            asked = EnrolRequested(name="client1", secret=secrets.token_bytes(SECRET_BYTES), request=csr)
            said, _ = await ask(at_work, asked, address=address)
            outcomes[code_of(said)] += 1

    guessing = asyncio.gather(*(guess() for _ in range(20)))
    await take_part(puppets)
    has_closed.set()
    await guessing
    assert outcomes.keys() == {"token-unknown", "enrolment-busy"}
    assert outcomes["enrolment-busy"] > outcomes["token-unknown"] >= limits.ENROLMENTS_AT_ONCE_OF_ONE
    await take_part(puppets)
    assert await asyncio.to_thread(at_work.process.wait, 60) == 0
    log = at_work.log()
    assert "(token-unknown)" in log
    assert "(enrolment-busy)" in log
    assert f"more were dropped: {address} " in log
