import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from fednet.errors import CredentialError, FednetError, SyncFailed
from fednet.protocol.messages import RenewalRefused, RenewalRequested, Renewed
from fednet.protocol.states import State
from fednet.transport.memory import memory_pair
from fednet.worker.renewing import Renewing

RENEWED = Renewed(certificate=b"c", authorities=[b"a"])


class Own:
    """A certificate that is due, or not, or cannot be read."""

    def __init__(self, *, request: bytes | None = None, fails: FednetError | None = None) -> None:
        self.told: list[str] = []
        self.stored: list[bytes] = []
        self.asked_often = asyncio.Event()
        self._request = request
        self.fails = fails
        self._loop = asyncio.get_running_loop()

    def request_due(self, told: str) -> bytes | None:
        self.told.append(told)
        if len(self.told) == 3:
            self._loop.call_soon_threadsafe(self.asked_often.set)
        if self.fails is not None:
            raise self.fails
        return self._request

    def store(self, certificate_der: bytes, told: Sequence[bytes]) -> datetime:
        if self.fails is not None:
            raise self.fails
        self.stored.append(certificate_der)
        return datetime(2027, 1, 2, tzinfo=UTC)


async def test_what_is_due_is_asked_for_at_once() -> None:
    at_coordinator, at_worker = memory_pair(begins=State.RENEWING)
    task = asyncio.create_task(Renewing(at_worker, Own(request=b"r"), print).run("ab"))
    assert await at_coordinator.receive() == RenewalRequested(request=b"r")
    task.cancel()


async def test_it_looks_again_and_again_and_heeds_what_the_coordinator_said_until_that_is_stored() -> None:
    own, notices = Own(), list[str]()
    _, at_worker = memory_pair(begins=State.RENEWING)
    renewing = Renewing(at_worker, own, notices.append, look_every_s=0.001)
    task = asyncio.create_task(renewing.run("ab"))
    await own.asked_often.wait()
    assert own.told[:3] == ["ab", "ab", "ab"]
    assert notices == []
    own.fails = CredentialError("x")
    await renewing.take(RENEWED)
    own.fails = None
    await renewing.take(RenewalRefused(code="renewal-often", reason="asked for twice"))
    assert await told_next(own) == "ab", "an answer that was not stored, or refused, leaves it to be done"
    await renewing.take(RENEWED)
    assert await told_next(own) == "", "an answer that changes nothing must not be asked for each hour"
    task.cancel()


async def told_next(own: Own) -> str:
    """Return what it looks with from now on."""
    count = len(own.told) + 2
    async with asyncio.timeout(10):
        while len(own.told) < count:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)
    return own.told[-1]


async def test_a_certificate_that_cannot_be_read_is_said_and_looked_at_again() -> None:
    own, notices = Own(fails=CredentialError("key k", found="mode 0644")), list[str]()
    _, at_worker = memory_pair(begins=State.RENEWING)
    task = asyncio.create_task(Renewing(at_worker, own, notices.append, look_every_s=0.001).run(""))
    await own.asked_often.wait()
    task.cancel()
    assert "cannot be renewed: key k; found mode 0644" in notices[0]


async def test_an_answer_is_stored_and_a_refusal_is_said() -> None:
    own, notices = Own(), list[str]()
    renewing = Renewing(memory_pair()[1], own, notices.append)
    await renewing.take(RENEWED)
    await renewing.take(RenewalRefused(code="renewal-often", reason="asked for twice"))
    assert own.stored == [b"c"]
    assert "good until 2027-01-02" in notices[0]
    assert "not renewed: asked for twice" in notices[1]


async def test_an_answer_that_does_not_fit_changes_nothing_but_a_disk_that_fails_ends_the_worker() -> None:
    notices: list[str] = []
    await Renewing(memory_pair()[1], Own(fails=CredentialError("x")), notices.append).take(RENEWED)
    assert "is not used: x" in notices[0]
    with pytest.raises(SyncFailed):
        await Renewing(memory_pair()[1], Own(fails=SyncFailed("disk")), notices.append).take(RENEWED)
