import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fednet.compression.forms import FEATURES
from fednet.config import WorkerName
from fednet.coordinator.renewals import Renewals
from fednet.errors import Refused, StorageError
from fednet.protocol import limits
from fednet.protocol.messages import (
    Hello,
    Message,
    Ready,
    RenewalRefused,
    RenewalRequested,
    Renewed,
    Welcome,
)
from fednet.protocol.states import State
from fednet.security import renewal
from fednet.security.authority import create_authority, open_authority
from fednet.security.enrolment import request_for
from fednet.security.keys import new_key
from fednet.security.renewal import OwnCertificate, Renewer
from fednet.security.rotation import authorities_in, signing_authority
from fednet.security.tokens import TokenLedger
from fednet.transport.link import Link
from fednet.transport.memory import memory_pair
from fednet.worker.workshop import Workshop
from tests.federation import Federation, Notes, settings
from tests.security.certs import DAY, NOW, enrolled

ASKED = RenewalRequested(request=b"r")


class FakeRenewer:
    """Gives certificate after certificate of one name, or refuses."""

    def __init__(self, folder: Path) -> None:
        authority, name = create_authority(folder, now=NOW), WorkerName("client1")
        self.authorities_sha256 = "ef" * 32
        self.refuses: Refused | None = None
        self.fails: StorageError | None = None
        self.shown: list[bytes] = []
        self.noted: list[bytes] = []
        self.certificates = [authority.sign_worker(request_for(new_key(), name), name, now=NOW) for _ in range(3)]

    def note_shown(self, certificate_der: bytes, *, now: datetime) -> None:
        self.noted.append(certificate_der)
        if self.fails is not None:
            raise self.fails

    def renew(self, shown: bytes, request_der: bytes, *, now: datetime) -> renewal.Renewed:
        if self.refuses is not None:
            raise self.refuses
        self.shown.append(shown)
        return renewal.Renewed(certificate=self.certificates[len(self.shown)], authorities=[b"a"])


@pytest.fixture
def fake(tmp_path: Path) -> FakeRenewer:
    return FakeRenewer(tmp_path / "fake")


async def answers(renewals: Renewals, shown: bytes, times: int = 1) -> list[Message]:
    """Let a peer ask so often, over a connection each; return what it hears."""
    heard = []
    for _ in range(times):
        at_coordinator, at_worker = memory_pair(begins=State.RENEWING)
        await renewals.answer(at_coordinator, shown, ASKED)
        heard.append(await at_worker.receive())
    return heard


async def test_a_renewal_is_answered_with_certificate_and_authorities(fake: FakeRenewer) -> None:
    renewals = Renewals(clock=lambda: 100.0)
    assert renewals.authorities_sha256 == ""
    renewals.renewer = fake
    assert renewals.authorities_sha256 == "ef" * 32
    assert await answers(renewals, fake.certificates[0]) == [
        Renewed(certificate=fake.certificates[1], authorities=[b"a"])
    ]


async def test_what_a_worker_shows_is_noted_and_a_ledger_that_fails_keeps_nobody_out(
    tmp_path: Path, fake: FakeRenewer, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation(tmp_path)
    federation.coordinator.reception.renewals.renewer = fake
    serving = asyncio.create_task(federation.serve())
    fake.fails = StorageError("tokens.sqlite: disk I/O error")
    await joined(federation)
    assert fake.noted == [federation.certificate("client1")]
    assert "disk I/O error" in caplog.text
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    federation.store.close()


async def test_a_coordinator_that_renews_nothing_and_one_that_refuses_say_so(fake: FakeRenewer) -> None:
    renewals, fake.refuses = Renewals(clock=lambda: 100.0), Refused("revoked", "stolen")
    closed = await answers(renewals, fake.certificates[0])
    renewals.renewer = fake
    refused = await answers(renewals, fake.certificates[0])
    for heard, code in ((closed[0], "renewal-closed"), (refused[0], "revoked")):
        assert isinstance(heard, RenewalRefused) and heard.code == code


async def test_one_name_is_renewed_once_in_a_while_over_however_many_connections(fake: FakeRenewer) -> None:
    now = 100.0
    renewals = Renewals(clock=lambda: now)
    renewals.renewer = fake
    heard = await answers(renewals, fake.certificates[0], times=3)
    assert [type(each) for each in heard] == [Renewed, RenewalRefused, RenewalRefused]
    now += limits.RENEWAL_EVERY_S
    assert isinstance((await answers(renewals, fake.certificates[0]))[0], Renewed)
    assert len(fake.shown) == 2


async def joined(federation: Federation) -> tuple[Link, Welcome]:
    """Return a worker's link on which it takes part."""
    link = await federation.connect("client1")
    link.send(Hello(software="test", features=list(FEATURES)))
    welcome = await link.receive()
    assert isinstance(welcome, Welcome)
    link.send(Ready(manifest=welcome.manifest, samples=8, device="cpu"))
    return link, welcome


async def heard(link: Link, kind: type[Message]) -> Message:
    while not isinstance(message := await link.receive(), kind):
        pass
    return message


async def test_over_a_connection_that_lasts_the_last_certificate_given_counts(
    tmp_path: Path, fake: FakeRenewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a connection that outlives the certificate it was opened with could never renew again."""
    monkeypatch.setattr(limits, "RENEWAL_EVERY_S", 0.0)
    federation = Federation(tmp_path)
    federation.coordinator.reception.renewals.renewer = fake
    serving = asyncio.create_task(federation.serve())
    link, welcome = await joined(federation)
    assert welcome.authorities_sha256 == "ef" * 32
    for _ in range(2):
        link.send(ASKED)
        await heard(link, Renewed)
    assert fake.shown == [federation.certificate("client1"), fake.certificates[1]]
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    federation.store.close()


async def test_what_people_must_see_to_is_said_once_however_often_a_worker_connects(
    tmp_path: Path, fake: FakeRenewer
) -> None:
    federation, notes, told = Federation(tmp_path, run_settings=settings(workers=2, quorum=2)), Notes(), list[str]()
    federation.coordinator.reception.renewals.renewer = fake
    worker = federation.worker(1, notes=notes)

    def advice(digest: str) -> str:
        told.append(digest)
        return "add the next authority to the file"

    worker._advice = advice

    async def cut() -> None:
        while not federation.links.get("client1"):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)
        while not told:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.001)
        federation.links["client1"][0].abort()

    cutting = asyncio.create_task(cut())
    await federation.run(worker, federation.worker(2))
    await cutting
    assert told[:2] == ["ef" * 32] * 2
    assert notes.notices.count("add the next authority to the file") == 1


async def test_a_renewals_own_connection_ends_with_the_answer(tmp_path: Path, fake: FakeRenewer) -> None:
    federation = Federation(tmp_path)
    federation.coordinator.reception.renewals.renewer = fake
    at_coordinator, at_worker = memory_pair(certificate=federation.certificate("client1"), begins=State.RENEWING)
    at_worker.send(ASKED)
    await federation.coordinator.reception.serve(at_coordinator, await at_coordinator.receive())
    assert isinstance(await at_worker.receive(), Renewed)
    federation.store.close()


class Watched(OwnCertificate):
    """Says when a certificate is stored."""

    stored = threading.Event()

    def store(self, certificate_der: bytes, told: Sequence[bytes]) -> datetime:
        ends = super().store(certificate_der, told)
        self.stored.set()
        return ends


async def test_a_worker_renews_in_the_middle_of_a_run_and_the_run_goes_on(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(workers=2, quorum=2))
    certs, began = federation.certs, NOW - 25 * DAY
    credentials = enrolled(certs, "client1", open_authority(certs), now=began)
    before, ledger = federation.certificate("client1"), TokenLedger(certs)
    renewer = Renewer(signing_authority(certs), authorities_in(certs), ledger)
    federation.coordinator.reception.renewals.renewer = renewer
    own = Watched(credentials, lambda: datetime.now(UTC))

    def after_renewal(made: Workshop) -> Workshop:
        work = made.work

        def wait(*arguments: object) -> object:
            assert own.stored.wait(20)
            return work(*arguments)  # type: ignore[arg-type]  # what it was called with

        made.work = wait  # type: ignore[method-assign, assignment]  # trains when the certificate is there
        return made

    notes = Notes()
    await federation.run(
        federation.worker(1, notes=notes, own_certificate=own, workshop=after_renewal), federation.worker(2)
    )
    assert any("certificate renewed, good until" in each for each in notes.notices)
    assert len(federation.links["client1"]) == 1, "the running connection goes on"
    assert federation.certificate("client1") != before
    assert [str(row.name) for row in ledger.certificates()].count("client1") == 2
    assert len(notes.closed) == 2
