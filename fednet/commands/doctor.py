"""`cli.py doctor`: all that stands between a hospital and its coordinator, a line each with ok or what to do."""

from __future__ import annotations

import asyncio
import collections
import json
import shutil
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fednet.commands.options import certs_option, json_option
from fednet.commands.own_certificate import given_files, name_in, own_certificate_options
from fednet.config import WorkerName
from fednet.errors import REVOKED, ConnectionLost, FednetError, Refused

if TYPE_CHECKING:
    from fednet.commands.door import Door
    from fednet.protocol.messages import Probed
    from fednet.transport.link import Link
    from fednet.transport.proxy import Proxy

_FRESH_DAYS = 5  # a certificate that ends sooner has not renewed itself, which begins with ten days left
_MOST_SKEW_S = 60.0  # certificates are for days; rounds do not look at clocks at all
_LEAST_FREE_BYTES = 2**30  # an own model, its temporary copy, and room to breathe
_SLOW_BYTES_PER_S = 2**18  # a ResNet18 takes three minutes each way at this rate
_ROUND_TRIPS = 5
_PROBES_AT_ONCE = 16
_MOST_PROBES = 1000  # fewer than a coordinator answers on one connection
_ANSWER_WITHIN_S = 15.0
_MEASURE_FOR_S = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    about: str
    ok: bool
    found: str
    todo: str = ""


@click.command("doctor")
@click.option("--coordinator", "address", help="HOST:PORT (default: 127.0.0.1:7733).")
@click.option("--proxy", help="HTTP proxy, http://[USER:PASSWORD@]HOST:PORT (default: HTTPS_PROXY); none: never.")
@click.option(
    "--id", "worker_id", help="This worker's number or name (default: the number in --data, or the only one)."
)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of scans to look at, one folder per class.")
@click.option("--token", help="Join token, an observer's for one: enrol with it first.")
@certs_option
@own_certificate_options
@json_option
def command(
    address: str | None,
    proxy: str | None,
    worker_id: str | None,
    data: Path | None,
    token: str | None,
    certs: Path,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Look at name, port, proxy, TLS, certificates, clock, rate, data, disk and GPU; exit 1 if something is wrong."""
    from fednet.commands.consenting import pins_here
    from fednet.commands.door import Door, address_of, proxy_for
    from fednet.commands.worker import name_of
    from fednet.security.tokens import decode_token

    own = given_files(ca, cert, key, token=token)
    given = decode_token(token) if token else None
    host, port = address_of(address, given)
    if own is None:
        name = given.name if given else _whose(certs, worker_id, data)
    else:
        name = name_in(own, worker_id=None if worker_id is None else name_of(worker_id, Path(), None))
    way = proxy_for(host, port, proxy)
    door = Door(certs, name, host, port, given, proxy=way, given=own, pins=pins_here()) if name else None
    findings: list[Finding] = []
    for finding in _looked_at(door, host, port, way, data, enrols=given is not None):
        findings.append(finding)
        if not as_json:
            click.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.about:<12} {finding.found}{_advice(finding)}")
    if as_json:
        click.echo(json.dumps([asdict(each) for each in findings]))
    if not all(each.ok for each in findings):
        raise click.exceptions.Exit(1)


def _advice(finding: Finding) -> str:
    return f". {finding.todo}" if finding.todo else ""


def _whose(certs: Path, worker_id: str | None, data: Path | None) -> WorkerName | None:
    """Return whose certificate to look at, or None where this machine has not joined yet."""
    from fednet.commands.worker import name_of

    if worker_id is not None or (data is not None and any(each.isdigit() for each in data.resolve().name)):
        return name_of(worker_id, data or Path(), None)
    joined = sorted(path.parent.name for path in (certs / "workers").glob("*/cert.pem"))
    return WorkerName(joined[0]) if len(joined) == 1 else None


def _looked_at(
    door: Door | None, host: str, port: int, proxy: Proxy | None, data: Path | None, *, enrols: bool
) -> Iterator[Finding]:
    reachable = False
    for finding in _network(host, port, proxy):
        reachable = finding.ok
        yield finding
    if reachable and door is not None and enrols:
        yield asyncio.run(_enrolment(door))
    yield from _certificate(door)
    if reachable and door is not None and door.credentials.certificate_path.exists():
        yield from asyncio.run(_measured(door))
    if data is not None:
        yield _data(data)
    yield _disk()
    yield _gpu()


def _network(host: str, port: int, proxy: Proxy | None) -> Iterator[Finding]:
    from fednet.transport.proxy import open_tunnel

    asked = (proxy.host, proxy.port) if proxy else (host, port)
    yield Finding("proxy", True, f"through {proxy}" if proxy else "none: straight to the coordinator")
    try:
        addresses = sorted({str(each[4][0]) for each in socket.getaddrinfo(*asked, type=socket.SOCK_STREAM)})
    except OSError as exc:
        yield Finding(
            "name", False, f"{asked[0]} is not known ({exc.strerror})", "Check the spelling, or use its address"
        )
        return
    yield Finding("name", True, f"{asked[0]} is {', '.join(addresses)}")
    began = time.perf_counter()
    try:
        if proxy:
            connection = asyncio.run(asyncio.wait_for(open_tunnel(proxy, host, port), 15))
        else:
            connection = socket.create_connection((host, port), timeout=15)
    except (OSError, TimeoutError, FednetError) as exc:
        reason = exc.strerror or "no answer in 15 s" if isinstance(exc, OSError) else exc
        todo = f"Is the coordinator running? The firewall must allow outgoing TCP to {host}:{port}; or use --proxy"
        yield Finding("port", False, f"{host}:{port} cannot be reached ({reason})", todo)
        return
    with connection:
        own = connection.getsockname()[0]
    yield Finding("port", True, f"{host}:{port} open, {1000 * (time.perf_counter() - began):.0f} ms, from {own}")


async def _enrolment(door: Door) -> Finding:
    import ssl

    try:
        await door.enrol_if_needed()
    except ssl.SSLError as exc:
        return Finding("enrolment", False, str(door.explain(exc)))
    except FednetError as exc:
        return Finding("enrolment", False, str(exc))
    return Finding("enrolment", True, f"as {door.credentials.name}")


def _certificate(door: Door | None) -> Iterator[Finding]:
    from cryptography.hazmat.primitives.serialization import Encoding

    from fednet.security.authority import read_certificate
    from fednet.security.identity import identity_of

    if door is None or not door.credentials.certificate_path.exists():
        todo = "`worker join --token ...` enrols it; the coordinating centre makes the token"
        yield Finding("certificate", False, "this worker has not joined yet, so TLS cannot be tried", todo)
        return
    try:
        identity = identity_of(read_certificate(door.credentials.certificate_path).public_bytes(Encoding.DER))
    except FednetError as exc:
        yield Finding("certificate", False, str(exc))
        return
    days = (identity.not_after - datetime.now(UTC)).days
    todo = f"Run `cli.py certs renew {identity.name}`, or ask the centre for a new token"
    if door.credentials.given is not None:
        todo = "Ask your site's own authority for a new one: nothing here renews it"
    yield Finding(
        "certificate",
        days >= _FRESH_DAYS,
        f"of {identity.name}, until {identity.not_after:%Y-%m-%d} ({days} days), SHA-256 {identity.fingerprint}",
        "" if days >= _FRESH_DAYS else todo,
    )


async def _measured(door: Door) -> list[Finding]:
    """Return what a connection with this worker's certificate tells, up to where it fails."""
    import ssl

    from fednet.protocol.states import State

    try:
        link = await door.reach(begins=State.PROBING)
    except ssl.SSLError as exc:
        return [Finding("TLS", False, str(door.explain(exc)))]
    except FednetError as exc:
        return [Finding("TLS", False, str(exc), "The port is open: is it the coordinator's?")]
    findings = []
    try:
        for about, look in (("TLS", _tls), ("clock", _clock), ("rate", _rate)):
            trouble = about
            findings += await look(link)
    except Refused as exc:
        findings.append(Finding("admission", False, str(exc)))
    except (FednetError, TimeoutError) as exc:
        cause = exc.__cause__
        if isinstance(cause, ssl.SSLError):  # TLS 1.3: a refused certificate shows only now
            return [Finding("TLS", False, str(door.explain(cause)))]
        todo = "Try again; if it stays so, the coordinator's log says why"
        findings.append(Finding(trouble, False, str(exc) or f"no answer in {_ANSWER_WITHIN_S:.0f} s", todo))
    finally:
        link.abort()
    return findings


async def _tls(link: Link) -> list[Finding]:
    from fednet.security.identity import identity_of

    assert link.certificate is not None, "TLS without the coordinator's certificate does not come to be"
    identity = identity_of(link.certificate)
    found = f"the coordinator's certificate holds until {identity.not_after:%Y-%m-%d}, SHA-256 {identity.fingerprint}"
    return [Finding("TLS", True, found)]


async def _clock(link: Link) -> list[Finding]:
    from fednet.protocol.messages import Probe

    trips, skews = [], []
    for _ in range(_ROUND_TRIPS):
        began, sent_at = time.perf_counter(), time.time()
        link.send(Probe(filling=b""))
        found = await _answer(link)
        trips.append(time.perf_counter() - began)
        skews.append(found.unix_time_s - sent_at - trips[-1] / 2)
    skew = statistics.median(skews)
    is_right = abs(skew) <= _MOST_SKEW_S
    return [
        Finding(
            "clock",
            is_right,
            f"{abs(skew):.1f} s {'behind' if skew > 0 else 'ahead of'} the coordinator's",
            "" if is_right else "Set it by NTP: certificates have dates",
        ),
        Finding("round trip", True, f"{1000 * statistics.median(trips):.1f} ms"),
    ]


async def _rate(link: Link) -> list[Finding]:
    from fednet.protocol.limits import MAX_PROBE_BYTES
    from fednet.protocol.messages import Goodbye, Probe

    began, sent, answered = time.perf_counter(), 0, 0
    at_once = 1  # grows as answers come in time: a slow link must not be filled for minutes
    while True:
        is_over = time.perf_counter() - began >= _MEASURE_FOR_S or sent >= _MOST_PROBES
        while not is_over and sent - answered < at_once:
            link.send(Probe(filling=bytes(MAX_PROBE_BYTES)))
            sent += 1
        if sent == answered:
            break
        await _answer(link)
        answered += 1
        at_once = min(at_once + 1, _PROBES_AT_ONCE)
    rate = answered * MAX_PROBE_BYTES / (time.perf_counter() - began)
    link.send(Goodbye(code="measured", reason="thank you"))
    is_fast = rate >= _SLOW_BYTES_PER_S
    found = f"{rate / 1e6:.2f} MB/s each way at once: a ResNet18 (45 MB) takes about {45e6 / rate:.0f} s"
    return [Finding("rate", is_fast, found, "" if is_fast else "Ask the coordinating centre for a long --deadline")]


async def _answer(link: Link) -> Probed:
    from fednet.protocol.messages import Goodbye, Probed

    async with asyncio.timeout(_ANSWER_WITHIN_S):
        found = await link.receive()
    if isinstance(found, Goodbye):
        if found.code == REVOKED:
            raise Refused(found.code, found.reason)
        raise ConnectionLost(f"{found.reason} ({found.code})")
    assert isinstance(found, Probed)
    return found


def _data(folder: Path) -> Finding:
    from data.classes import CLASSES
    from data.images import files_of

    try:
        counts = collections.Counter(label for _, label in files_of(folder))
    except FednetError as exc:
        return Finding("data", False, str(exc))
    listed = ", ".join(f"{name} {counts[label]}" for label, name in enumerate(CLASSES))
    has_two = counts.total() >= 2  # BatchNorm cannot train on one
    return Finding(
        "data",
        has_two,
        f"{folder}: {counts.total()} files ({listed})",
        "" if has_two else "It needs at least two scans",
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path()).free
    has_room = free >= _LEAST_FREE_BYTES
    return Finding("disk", has_room, f"{free / 1e9:.1f} GB free here", "" if has_room else "Free some: it needs 1 GiB")


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", True, f"none that PyTorch {torch.__version__} can use: training runs on the CPU")
    device = torch.cuda.get_device_properties(0)
    return Finding(
        "GPU", True, f"{device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda} of PyTorch"
    )
