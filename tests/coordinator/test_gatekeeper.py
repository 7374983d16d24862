"""The door of a coordinator that runs on, as its certificates' folder changes under it; over real TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fednet.commands.door import Door
from fednet.config import WorkerName
from fednet.coordinator.gatekeeper import Gatekeeper, open_gate
from fednet.errors import ConnectionLost, CredentialError, Refused
from fednet.protocol.messages import Probe, Probed
from fednet.protocol.states import State
from fednet.security import rotation
from fednet.security.authority import (
    hosts_of,
    is_issued_by,
    open_authority,
    pem_of,
    read_certificate,
    read_certificates,
)
from fednet.security.enrolment import Enroller
from fednet.security.loopback import LoopbackGrant, find_loopback_token
from fednet.security.pinning import Pins
from fednet.security.rotation import authorities_in
from fednet.security.signing import RecordSigner, SignatureCheck, fingerprint_of
from fednet.security.tokens import TokenLedger
from fednet.security.trusted import remove, trust
from fednet.transport.tcp import Listener
from tests.federation import Federation
from tests.security.certs import DAY, NOW, SOON, authority_in, enrolled
from tests.security.site_authority import issue, make_authority, needs_openssl

COORDINATOR = ("coordinator", "cert.pem")


class House:
    """A coordinator that listens, and its gatekeeper, which looks only when told."""

    def __init__(self, federation: Federation, port: int, gatekeeper: Gatekeeper, notices: list[str]) -> None:
        self.federation, self.port, self.gatekeeper, self.notices = federation, port, gatekeeper, notices
        self.certs = federation.certs

    async def look(self) -> None:
        await self.gatekeeper.look(now=NOW)

    def door(self, name: str, **options: object) -> Door:
        return Door(self.certs, WorkerName(name), "127.0.0.1", self.port, None, **options)  # type: ignore[arg-type]

    async def is_let_in(self, door: Door) -> bool:
        """Whether the coordinator answers this worker."""
        try:
            link = await door.reach(begins=State.PROBING)
            link.send(Probe(filling=b""))
            answer = await link.receive()
        except (ssl.SSLError, ConnectionLost):
            return False
        link.abort()
        return isinstance(answer, Probed)


@contextlib.asynccontextmanager
async def house(folder: Path, *, hosts: Sequence[str] = ()) -> AsyncIterator[House]:
    federation = Federation(folder)
    certs, notices = federation.certs, list[str]()
    listener = Listener()
    _, port = listener.bind("127.0.0.1", 0)
    gate = await asyncio.to_thread(open_gate, certs, hosts, now=NOW)
    grant = LoopbackGrant(certs, port=port, authority_der=gate.authority.certificate_der)
    enroller = Enroller(gate.authority, TokenLedger(certs), [grant])
    federation.coordinator.reception.enroller = enroller
    gatekeeper = Gatekeeper(
        certs,
        gate,
        lambda: open_gate(certs, hosts_of(read_certificate(certs.joinpath(*COORDINATOR))), now=NOW),
        listener=listener,
        reception=federation.coordinator.reception,
        record=federation.coordinator._record,
        enroller=enroller,
        grant=grant,
        notice=notices.append,
    )
    gatekeeper.open()
    serving = asyncio.create_task(listener.serve())
    try:
        await gatekeeper.look(now=NOW)
        yield House(federation, port, gatekeeper, notices)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        federation.store.close()


def cert_of(door: Door) -> bytes:
    return read_certificate(door.credentials.certificate_path).public_bytes(Encoding.DER)


def behind(certs: Path) -> list[str]:
    successor = authorities_in(certs).successor
    assert successor is not None
    return rotation.laggards(TokenLedger(certs).certificates(), successor, now=NOW)


def joined(folder: Path, name: str = "client1", *, ago: timedelta = timedelta()) -> None:
    """Make the federation's authority, and enrol a worker before its house is built."""
    enrolled(folder / "certs", name, authority_in(folder / "certs", now=NOW - ago), now=NOW - ago)


async def test_a_worker_renews_over_a_connection_of_its_own(tmp_path: Path) -> None:
    await asyncio.to_thread(joined, tmp_path)
    async with house(tmp_path) as here:
        door = here.door("client1")
        before = cert_of(door)
        ends = await door.renew()
        assert ends > NOW + 29 * DAY
        assert cert_of(door) != before
        assert await here.is_let_in(door)
        with pytest.raises(Refused, match="twice within 10 s"):
            await door.renew()
        assert await here.is_let_in(door), "what was refused left the pair as it was"


async def test_a_certificate_that_has_ended_cannot_renew_and_says_what_to_do(tmp_path: Path) -> None:
    await asyncio.to_thread(joined, tmp_path, ago=40 * DAY)
    async with house(tmp_path) as here:
        with pytest.raises(CredentialError, match=r"expired at .* cannot renew itself .*--token"):
            await here.door("client1").renew()


async def test_nothing_is_read_anew_while_nothing_changes(tmp_path: Path) -> None:
    await asyncio.to_thread(joined, tmp_path)
    async with house(tmp_path) as here:
        gate = here.gatekeeper._gate
        await here.look()
        assert here.gatekeeper._gate is gate
        assert here.notices == []


async def test_the_coordinators_certificate_is_made_anew_before_it_ends_and_records_still_verify(
    tmp_path: Path,
) -> None:
    """A coordinator that runs for a year: workers connect, and the records before and after verify."""
    await asyncio.to_thread(joined, tmp_path, ago=340 * DAY)
    certs = tmp_path / "certs"
    path = certs.joinpath(*COORDINATOR)
    async with house(tmp_path) as here:
        made = read_certificate(path)
        assert made.not_valid_after_utc > NOW + 300 * DAY, "25 days before its end it is renewed at start"
        old = RecordSigner(certs)
        here.gatekeeper._reopen = lambda: open_gate(certs, ["centre.example"], now=NOW + 340 * DAY)
        await here.gatekeeper.look(now=NOW + 340 * DAY)
        new = read_certificate(path)
        assert new != made
        assert here.gatekeeper._gate.ends == new.not_valid_after_utc
        signer = here.federation.coordinator._record._signer
        assert signer.certificate_der == new.public_bytes(Encoding.DER) != old.certificate_der
        check = SignatureCheck(authorities_in(certs).current)
        for each in (old, signer):
            check(b"{}", each.sign(b"{}"), each.certificate_der)


async def test_what_certs_renew_makes_is_shown_to_the_next_worker(tmp_path: Path) -> None:
    await asyncio.to_thread(joined, tmp_path)
    async with house(tmp_path) as here:
        link = await here.door("client1").reach(begins=State.PROBING)
        before = link.certificate
        await asyncio.to_thread(open_authority(here.certs).make_coordinator, ["centre.example"], now=NOW)
        await here.look()
        again = await here.door("client1").reach(begins=State.PROBING)
        assert again.certificate not in (None, before)
        link.send(Probe(filling=b""))
        assert isinstance(await link.receive(), Probed), "the open connection goes on"
        link.abort()
        again.abort()


async def test_a_change_over_while_the_coordinator_runs(tmp_path: Path) -> None:
    await asyncio.to_thread(joined, tmp_path)
    async with house(tmp_path) as here:
        door, old = here.door("client1"), authorities_in(here.certs).current
        before = here.federation.coordinator.reception.renewals.authorities_sha256
        own = door.own_certificate
        assert own is not None and own.request_due(before) is None
        await asyncio.to_thread(rotation.begin, here.certs, now=NOW)
        await here.look()
        told = here.federation.coordinator.reception.renewals.authorities_sha256
        assert own.request_due(told) is not None, "a worker that connects now asks at once"
        await door.renew()
        during = authorities_in(here.certs)
        assert during.successor is not None
        assert is_issued_by(read_certificate(door.credentials.certificate_path), during.successor)
        assert own.request_due(told) is None
        assert behind(here.certs) == ["client1"], "signed, and nobody knows whether it arrived"
        assert await here.is_let_in(door)
        assert behind(here.certs) == []

        await asyncio.to_thread(rotation.finish, here.certs)
        await here.look()
        here.gatekeeper._seen = None
        await here.look()
        assert await here.is_let_in(door)
        assert old not in here.gatekeeper._gate.known.certificates
        assert set(read_certificates(door.credentials.authority_path)) == {old, during.successor}
        token = find_loopback_token(here.certs, here.port)
        assert token is not None
        assert token.authority_der == during.successor.public_bytes(Encoding.DER)
        signer = here.federation.coordinator._record._signer
        SignatureCheck(during.successor)(b"{}", signer.sign(b"{}"), signer.certificate_der)


async def test_a_hospital_that_names_the_authority_follows_its_change_over_and_no_other(tmp_path: Path) -> None:
    await asyncio.to_thread(joined, tmp_path)
    async with house(tmp_path) as here:
        pins = Pins(frozenset({fingerprint_of(authorities_in(here.certs).current)}))
        door, unproven = here.door("client1", pins=pins), here.door("client1", pins=pins)
        for _ in range(2):  # twice: the authority after the next is vouched for by the next
            await asyncio.to_thread(rotation.begin, here.certs, now=NOW)
            await here.look()
            await door.renew()
            await asyncio.to_thread(rotation.finish, here.certs)
            await here.look()
            here.federation.coordinator.reception.renewals._asked.clear()
            assert await here.is_let_in(door)
            await door.renew()  # which takes the old authority away
            here.federation.coordinator.reception.renewals._asked.clear()
            assert await here.is_let_in(door)
        proofs = door.credentials.vouched_path
        for each in read_certificates(proofs):
            proofs.write_bytes(pem_of([each]))
            with pytest.raises(CredentialError, match="coordinator's authority; found SHA-256"):
                await unproven.reach(begins=State.PROBING)


@needs_openssl
async def test_a_sites_authority_is_let_in_and_shut_out_while_the_coordinator_runs(tmp_path: Path) -> None:
    mary = await asyncio.to_thread(make_authority, tmp_path / "mary")
    files = await asyncio.to_thread(issue, mary.parent, "client7")
    async with house(tmp_path) as here:
        files.authority.write_bytes((here.certs / "authority" / "ca.pem").read_bytes())
        door = here.door("client7", given=files)
        assert door.own_certificate is None
        assert not await here.is_let_in(door)
        trust(here.certs, read_certificate(mary), [WorkerName("client7")], now=SOON)
        await here.look()
        assert await here.is_let_in(door)
        assert door.advice(here.federation.coordinator.reception.renewals.authorities_sha256) == ""
        measuring = await door.reach(begins=State.PROBING)
        measuring.send(Probe(filling=b""))
        assert isinstance(await measuring.receive(), Probed)
        remove(here.certs, [WorkerName("client7")])
        await here.look()
        with pytest.raises(ConnectionLost):
            await measuring.receive()
        assert not await here.is_let_in(door)
        assert len(here.notices) == 2


@needs_openssl
async def test_a_site_with_its_own_certificate_is_told_to_add_the_next_authority_by_hand(tmp_path: Path) -> None:
    await asyncio.to_thread(make_authority, tmp_path / "mary")
    files = await asyncio.to_thread(issue, tmp_path / "mary", "client7")
    async with house(tmp_path) as here:
        door, renewals = here.door("client7", given=files), here.federation.coordinator.reception.renewals
        files.authority.write_bytes((here.certs / "authority" / "ca.pem").read_bytes())
        assert here.door("client1").advice("ab" * 32) == "", "who renews gets it by that"
        assert door.advice("") == door.advice(renewals.authorities_sha256) == ""
        await asyncio.to_thread(rotation.begin, here.certs, now=NOW)
        await here.look()
        assert "has not the next one" in door.advice(renewals.authorities_sha256)
        successor = (here.certs / "authority" / "next" / "ca.pem").read_bytes()
        files.authority.write_bytes(files.authority.read_bytes() + successor)
        assert door.advice(renewals.authorities_sha256) == ""
        await asyncio.to_thread(rotation.finish, here.certs)
        await here.look()
        assert door.advice(renewals.authorities_sha256) == "", "the old one beside the new one does no harm"


async def test_a_folder_that_cannot_be_read_is_said_once_and_the_old_door_stays(tmp_path: Path) -> None:
    await asyncio.to_thread(joined, tmp_path)
    async with house(tmp_path) as here:
        path = here.certs.joinpath(*COORDINATOR)
        whole = path.read_bytes()
        for content in (b"broken", b"broken again"):
            path.unlink()
            path.write_bytes(content)
            await here.look()
        assert len(here.notices) == 1 and "certificates are used as they were" in here.notices[0]
        assert await here.is_let_in(here.door("client1"))
        path.write_bytes(whole)
        await here.look()
        assert "read anew" in here.notices[-1]


async def test_a_listener_that_fails_ends_the_serving(tmp_path: Path) -> None:
    await asyncio.to_thread(joined, tmp_path)
    async with house(tmp_path) as here:

        async def fails() -> None:
            raise OSError("no such port")

        here.gatekeeper._listener.serve = fails  # type: ignore[method-assign]  # a listener that cannot go on
        with pytest.raises(OSError, match="no such port"):
            await here.gatekeeper.serve()
