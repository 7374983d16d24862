"""Revoking a worker in the middle of a live round, by the command line, as another process."""

import asyncio
import contextlib
import hashlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fednet.bench.puppet import Puppet
from fednet.errors import FednetError
from fednet.protocol.frames import ChunkHead, encode_chunk_head
from fednet.protocol.messages import Goodbye, Message, RoundStarted, UpdateAccepted
from fednet.security.contexts import worker_context
from tests.integration.site import cli, join, running, wait_for
from tests.integration.strangers import Centre, centre, update_in
from tests.security.certs import enrolled

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="strangers need addresses of their own: 127.0.0.2 and so on"),
]
NAMES = ("client1", "client2", "client3")
LONG = ("--grace", 600, "--deadline", 600)  # whoever waited for the revoked one would wait beyond the test


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Centre]:
    with centre(tmp_path, *LONG) as found:
        yield found


def history(site: Centre) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site.folder / "runs" / "run" / "history.json").read_text())
    return found


def events(site: Centre) -> list[str]:
    with contextlib.closing(sqlite3.connect(site.folder / "runs" / "run" / "run.sqlite")) as database:
        return [detail for (detail,) in database.execute("SELECT detail FROM events WHERE what = 'revoked'")]


async def heard(puppet: Puppet) -> list[Message]:
    """Return all that a worker is told until its connection ends."""
    said: list[Message] = []
    with contextlib.suppress(FednetError):
        async with asyncio.timeout(20):
            while True:
                said.append(await puppet.link.receive())
    return said


async def deliver(puppet: Puppet, started: RoundStarted, *, seed: int = 1) -> None:
    update = await update_in(puppet, started, seed=seed)
    await puppet.deliver(started, update, sha256=hashlib.sha256(update).hexdigest())
    while not isinstance(await puppet.link.receive(), UpdateAccepted):
        pass


async def begin_to_upload(puppet: Puppet, started: RoundStarted) -> None:
    """Send the first kilobyte of an update, and no more."""
    update = await update_in(puppet, started)
    puppet.offer(started, nbytes=len(update), sha256=hashlib.sha256(update).hexdigest())
    wanted = await puppet.wanted()
    assert puppet.link._transport is not None
    puppet.link._transport.write(encode_chunk_head(ChunkHead(wanted.transfer, 0), 1024) + bytes(update[:1024]))


@pytest.mark.parametrize("how_far", [begin_to_upload, deliver], ids=["in its upload", "when its update is durable"])
async def test_a_round_ends_without_a_revoked_worker_and_the_record_says_why(site: Centre, how_far: Any) -> None:
    contexts = [worker_context(enrolled(site.certs, name, site.authority)) for name in NAMES]
    puppets = [await Puppet.joined(site.port, context) for context in contexts]
    for puppet in puppets:
        puppet.link.start_heartbeats()
    started = [await puppet.round_started() for puppet in puppets]
    assert started[0] is not None and started[1] is not None and started[2] is not None
    await how_far(puppets[2], started[2])
    await deliver(puppets[0], started[0], seed=1)
    await asyncio.to_thread(site.revoke, "client3", "laptop stolen")
    *_, last = await heard(puppets[2])
    assert isinstance(last, Goodbye)
    assert last.code == "revoked"
    assert "laptop stolen" in last.reason
    assert puppets[2].link.has_failed
    with pytest.raises(AssertionError, match="revoked"):  # a puppet insists on a welcome
        await Puppet.joined(site.port, contexts[2])
    await deliver(puppets[1], started[1], seed=2)
    assert await asyncio.to_thread(site.process.wait, 60) == 0
    (document,) = history(site)["rounds"]
    assert document["revoked"] == {"client3": "laptop stolen"}
    assert [each["worker"] for each in document["updates"]] == ["client1", "client2"]
    assert document["absent"] == []
    assert events(site) == ["client3: laptop stolen"]
    verified = await asyncio.to_thread(cli, site.folder, "runs", "verify", "runs/run")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "shown out: its certificate is revoked: laptop stolen" in site.log()


async def test_a_worker_that_is_revoked_says_why_and_ends_with_code_2_however_often_it_is_started(
    tmp_path: Path, site: Centre
) -> None:
    with running(tmp_path, "worker", *join(site.port, 1)) as worker:
        await asyncio.to_thread(wait_for, tmp_path, "worker", "waiting for")
        await asyncio.to_thread(site.revoke, "client1", "left the study")
        assert await asyncio.to_thread(worker.wait, 60) == 2
    again = await asyncio.to_thread(cli, tmp_path, *join(site.port, 1))
    assert again.returncode == 2
    log = (tmp_path / "worker.log").read_text()
    for said in (log, again.stderr):
        assert "Error: the certificate of client1 is revoked: left the study. Ask the coordinating centre" in said
    for path in (tmp_path / "certs" / "workers" / "client1").iterdir():
        path.unlink()
    anew = await asyncio.to_thread(cli, tmp_path, *join(site.port, 1))
    assert anew.returncode == 2, "a name that is revoked does not enrol on this machine either"
    assert "client1 is revoked: left the study" in anew.stderr

    token = (await asyncio.to_thread(cli, tmp_path, "certs", "token", "client1", "--port", site.port)).stdout
    with running(tmp_path, "back", *join(site.port, 1, "--token", token.strip())):
        await asyncio.to_thread(wait_for, tmp_path, "back", "waiting for")
    assert site.process.poll() is None
