"""Hostile peers against a live coordinator while a round runs to its end."""

import asyncio
import contextlib
import hashlib
import os
import ssl
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
import torch

from fednet.bench.puppet import Puppet
from fednet.commands import wiring
from fednet.commands.processes import free_port
from fednet.protocol.frames import VERSION, ChunkHead, Kind, encode_chunk_head
from fednet.protocol.messages import Goodbye, Message, UpdateRefused
from fednet.security.contexts import worker_context
from fednet.tensors import Manifest, bytes_of, empty_flat, pack, parameters_of
from models import checkpoint
from tests.integration.site import RUN, cli, running, wait_for
from tests.security.certs import authority_in, enrolled
from tests.transport.hostile import send_over_tls

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="attackers need addresses of their own: 127.0.0.2 and so on"),
]
MIB = 2**20
SLOW, FLOODING, GARBLED, MALLORY = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(194)  # as far as a slow one will ever come


class Battle:
    """A coordinator's port, and everybody's credentials."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        authority = authority_in(folder / "certs")
        self.contexts: dict[str, ssl.SSLContext] = {
            name: worker_context(enrolled(folder / "certs", name, authority))
            for name in ("client1", "client2", "mallory")
        }

    async def join(self, name: str) -> Puppet:
        puppet = await Puppet.joined(self.port, self.contexts[name])
        puppet.link.start_heartbeats()
        return puppet

    async def raw(self, address: str, data: bytes, *, every_s: float = 0.0, for_s: float = 0.0) -> None:
        """Connect without TLS, send `data` (a byte at a time, if `every_s`), and stay until dropped or `for_s`."""
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
            try:
                async with asyncio.timeout(for_s or 10):
                    for part in [data[at : at + 1] for at in range(len(data))] if every_s else [data]:
                        writer.write(part)
                        await asyncio.sleep(every_s)
                    while await reader.read(1000):
                        pass
            finally:
                writer.close()

    async def over_tls(self, data: bytes) -> None:
        """Send bytes over TLS, with mallory's good certificate, until the coordinator hangs up."""
        await send_over_tls(self.port, self.contexts["mallory"], data, address=MALLORY)


async def outcome(puppet: Puppet) -> list[Message]:
    """Return what the coordinator still says, until it hangs up or 5 s."""
    said: list[Message] = []
    with contextlib.suppress(Exception):
        async with asyncio.timeout(5):
            while True:
                said.append(await puppet.link.receive())
    return said


def chunk(transfer: int, offset: int, nbytes: int = 1000) -> bytes:
    return encode_chunk_head(ChunkHead(transfer, offset), nbytes) + bytes(nbytes)


NESTED: object = 1
for _ in range(2000):
    NESTED = [NESTED]


def control(kind: Kind, document: bytes, *, announced: int | None = None) -> bytes:
    return struct.pack("!2sBBII", b"FN", VERSION, kind, announced or len(document), 0) + document


OVER_TLS = [
    control(Kind.HELLO, b"", announced=2**32 - 1),
    struct.pack("!2sBBII", b"FN", VERSION, Kind.CHUNK, 20, 2**32 - 1),
    control(Kind.HELLO, b"\x91" * 60_000 + b"\x01"),
    control(Kind.HELLO, msgpack.packb({"software": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": 1}}}}}}}}})),
    chunk(1, 0),
    b"garbage, but over TLS" * 100,
]

# What mallory writes once the coordinator has asked for transfer 1 from offset 0, and what that is called in the log
ONCE_WANTED: list[tuple[Callable[[int], bytes], str]] = [
    (lambda nbytes: chunk(1, 1000), "chunk at 1000, expected 0"),
    (lambda nbytes: chunk(1, 0) + chunk(1, 0), "chunk at 0, expected 1000"),
    (lambda nbytes: chunk(2, 0), "transfer 2, which was not asked for"),
    (lambda nbytes: chunk(1, 0, nbytes) + chunk(1, nbytes), "was not asked for|the transfer has"),
]


async def misbehave(battle: Battle) -> None:
    """Do everything that a worker with a good certificate can do wrong."""
    for data in OVER_TLS:
        await battle.over_tls(data)
    for bytes_for, _ in ONCE_WANTED:
        puppet = await battle.join("mallory")
        started = await puppet.round_started()
        assert started is not None
        puppet.offer(started, nbytes=started.nbytes, sha256="ab" * 32, transfer=1)
        await puppet.wanted()
        assert puppet.link._transport is not None
        puppet.link._transport.write(bytes_for(started.nbytes))
        assert any(isinstance(said, Goodbye) and said.code == "protocol" for said in await outcome(puppet))

    puppet = await battle.join("mallory")
    started = await puppet.round_started()
    assert started is not None
    puppet.offer(started, nbytes=started.nbytes + 4, sha256="ab" * 32)
    said = await puppet.link.receive()
    assert isinstance(said, UpdateRefused)
    assert said.code == "size"
    wrong = memoryview(bytes(started.nbytes))
    await puppet.deliver(started, wrong, sha256="ab" * 32)
    again = await puppet.wanted()
    assert again.offset == 0, "a damaged update is asked for once more"
    puppet.link.start_transfer(again.transfer, wrong, offset=0)
    assert any(isinstance(said, UpdateRefused) and said.code == "digest" for said in await outcome(puppet))
    puppet.link.abort()


def resident(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def update_of(seed: int, base: memoryview, manifest: Manifest) -> torch.Tensor:
    """Return small noise on every parameter, and the buffers as they were."""
    update = empty_flat(manifest)
    bytes_of(update)[:] = base
    noise = torch.randn(manifest.parameter_count, generator=torch.Generator().manual_seed(seed))
    parameters_of(update, manifest).copy_(noise * 1e-3)
    return update


@pytest.fixture
def battle(tmp_path: Path) -> Battle:
    made = cli(tmp_path, "split", "--phantoms", "--phantom-images", 40, "--phantom-size", 32, "--clients", 2)
    assert made.returncode == 0, made.stderr
    return Battle(tmp_path, free_port())


@pytest.fixture
def manifest() -> Manifest:
    return wiring.manifest_for(wiring.new_model("small-cnn", seed=0, pretrained="no", weights=None, notice=print))


async def test_a_round_ends_right_while_all_of_them_attack(tmp_path: Path, battle: Battle, manifest: Manifest) -> None:
    options = ["--run-dir", "runs/battle", "--workers", 3, "--quorum", 2, "--byzantine", 0, "--rounds", 1]
    options += ["--port", battle.port, "--aggregator", "fedavg", "--grace", 1, "--verbose", *RUN]
    with running(tmp_path, "coordinator", "coordinator", "start", *options) as coordinator:
        await asyncio.to_thread(wait_for, tmp_path, "coordinator", "listening on")
        honest = [await battle.join("client1"), await battle.join("client2")]
        mallory = await battle.join("mallory")
        started = await honest[0].round_started()
        assert started is not None
        base = memoryview(bytearray(started.nbytes))
        await honest[0].take_model(started, base)
        mallory.link.abort("the attack begins")
        before = resident(coordinator.pid)

        attack = [battle.raw(SLOW, CLIENT_HELLO, every_s=1.0, for_s=15) for _ in range(500)]
        attack += [battle.raw(FLOODING, b"", for_s=5) for _ in range(300)]
        attack += [battle.raw(GARBLED, os.urandom(300)) for _ in range(50)]
        attackers = asyncio.gather(*attack, misbehave(battle))
        took = []
        for _ in range(5):
            await asyncio.sleep(1.0)
            honest[1].link.abort("the hospital's network blinks")
            began = time.monotonic()
            honest[1] = await battle.join("client2")
            took.append(time.monotonic() - began)
        await attackers
        grown = resident(coordinator.pid) - before
        assert coordinator.poll() is None

        updates = [update_of(seed, base, manifest) for seed in (1, 2)]
        again = await honest[1].round_started()
        assert again is not None
        for puppet, update in zip(honest, updates, strict=True):
            await puppet.deliver(again, bytes_of(update), sha256=hashlib.sha256(bytes_of(update)).hexdigest())
        assert await asyncio.to_thread(coordinator.wait, 60) == 0

    assert sorted(took)[2] < 1.0, took
    assert grown <= 32 * MIB, f"{grown / MIB:.0f} MiB more"
    final = pack(checkpoint.load(tmp_path / "runs" / "battle" / "final.pth").state, manifest)
    start = empty_flat(manifest)
    bytes_of(start)[:] = base
    expected = parameters_of(start, manifest) + sum(parameters_of(update, manifest) for update in updates) / 2
    assert torch.allclose(parameters_of(final, manifest), expected, atol=1e-6)
    log = (tmp_path / "coordinator.log").read_text()
    for offender in (f"{SLOW}:", f"{FLOODING}:", f"{GARBLED}:", f"{MALLORY}:", "mallory (127.0.0.1:"):
        assert offender in log
    for complaint in ("limit is 1 to 65536", "cannot be read", "nests deeper", "CHUNK is not allowed"):
        assert complaint in log
    for text in ("chunk at 1000, expected 0", "chunk at 0, expected 1000", "which was not asked for"):
        assert text in log
