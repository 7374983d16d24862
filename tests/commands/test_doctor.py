import asyncio
import json
import socket
from pathlib import Path

import pytest

from data.phantoms import write_phantoms
from fednet.config import WorkerName
from fednet.coordinator.reception import answer_probes
from fednet.protocol.messages import Message
from fednet.security.authority import read_certificate
from fednet.security.contexts import coordinator_context
from fednet.security.trusted import trust
from fednet.transport.link import Link
from tests.commands.running import Ran, run
from tests.security.certs import SOON
from tests.security.site_authority import issue, make_authority, needs_openssl
from tests.transport.test_tcp import Site, listening


async def examined(folder: Path, capsys: pytest.CaptureFixture[str], site: Site, *options: object) -> Ran:
    async def serve(link: Link, first: Message) -> None:
        await answer_probes(link, first)

    site.listener.serve_with(coordinator_context(folder), serve)
    arguments = ["doctor", "--coordinator", f"127.0.0.1:{site.port}", "--certs", folder, *options]
    return await asyncio.to_thread(run, capsys, *arguments)


async def test_a_healthy_way_is_measured_and_every_line_is_ok(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fednet.commands.doctor._MEASURE_FOR_S", 0.1)
    write_phantoms(tmp_path / "scans", training=8, testing=4, seed=0, size=16)
    async with listening(tmp_path) as site:
        ran = await examined(tmp_path, capsys, site, "--id", "1", "--data", tmp_path / "scans" / "Training", "--json")
    found = {each["about"]: each for each in json.loads(ran.out)}
    assert ran.code == 0, found
    assert list(found) == [
        *("proxy", "name", "port", "certificate", "TLS", "clock", "round trip", "rate", "data", "disk", "GPU")
    ]
    assert "8 files" in found["data"]["found"]
    assert "0.0 s" in found["clock"]["found"]
    assert "until" in found["TLS"]["found"]


async def test_a_clock_that_is_wrong_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fednet.commands.doctor._MEASURE_FOR_S", 0.1)
    monkeypatch.setattr("fednet.commands.doctor._MOST_SKEW_S", -1.0)
    async with listening(tmp_path) as site:
        ran = await examined(tmp_path, capsys, site)
    assert ran.code == 1
    assert [line.split()[1] for line in ran.out.splitlines() if line.startswith("FAIL")] == ["clock"]
    assert "Set it by NTP" in ran.out


@needs_openssl
async def test_a_site_with_a_certificate_of_its_own_looks_at_the_way_with_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fednet.commands.doctor._MEASURE_FOR_S", 0.1)
    mary = await asyncio.to_thread(make_authority, tmp_path / "mary")
    files = await asyncio.to_thread(issue, mary.parent, "client7", days=4)
    async with listening(tmp_path) as site:
        trust(tmp_path, read_certificate(mary), [WorkerName("client7")], now=SOON)
        files.authority.write_bytes((tmp_path / "authority" / "ca.pem").read_bytes())
        given = ["--ca", files.authority, "--cert", files.certificate, "--key", files.key]
        ran = await examined(tmp_path, capsys, site, *given)
        short = await asyncio.to_thread(run, capsys, "doctor", "--cert", files.certificate)
    said = {line.split()[1]: line for line in ran.out.splitlines()}
    assert "of client7, until" in said["certificate"]
    assert "Ask your site's own authority for a new one" in said["certificate"]
    assert said["TLS"].startswith("ok") and said["clock"].startswith("ok")
    assert (short.code, "expected all three or none" in short.err) == (2, True)


async def test_who_has_not_joined_is_told_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with listening(tmp_path) as site:
        ran = await examined(tmp_path, capsys, site, "--id", "7", "--data", tmp_path / "nothing")
    assert ran.code == 1
    assert "worker join --token" in ran.out
    assert "no such folder" in ran.out
    assert "clock" not in ran.out


def test_a_coordinator_that_is_not_there_and_a_name_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    closed = run(capsys, "doctor", "--coordinator", f"127.0.0.1:{port}", "--certs", tmp_path)
    assert closed.code == 1
    assert f"FAIL  port         127.0.0.1:{port} cannot be reached" in closed.out
    unknown = run(capsys, "doctor", "--coordinator", "no-such-host.invalid", "--certs", tmp_path, "--proxy", "none")
    assert unknown.code == 1
    assert "FAIL  name" in unknown.out
