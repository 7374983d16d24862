"""Fuzzes a live coordinator over TLS: `python -m tests.transport.fuzz_tls --frames 1000000 --connections 10000`.

Peers with good certificates greet, send frames of which one in a hundred is damaged, and come back when they are
dropped. The coordinator must go on serving, and take no more memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from fednet.bench.memory import anonymous_bytes
from fednet.bench.puppet import Puppet
from fednet.errors import FednetError
from fednet.protocol.connection import Connection
from fednet.protocol.states import Role, State
from fednet.security.contexts import coordinator_context, worker_context
from fednet.transport.capacity import give_back_memory
from fednet.transport.link import Link
from fednet.transport.tcp import Listener
from tests.federation import Federation, settings
from tests.protocol.fuzz import Fuzzer, refuse_growth
from tests.security.certs import authority_in, enrolled

PEERS = 8
DAMAGED = 0.01
_HARMLESS = ("PROGRESS", "HEARTBEAT", "MODEL_WANTED", "CHUNKS_RECEIVED", "UPDATE_OFFERED")
_AT_A_TIME = 20  # frames: what is dropped must be seen before much more is sent


@dataclass
class Toll:
    """What was sent, and what came of it."""

    frames: int = 0
    connections: int = 0
    dropped: int = 0
    trouble: list[str] = field(default_factory=list)  # what should never have been seen


class Crash(logging.Handler):
    """Notes what the coordinator logs as an error: a bug, or an exception that nobody caught."""

    def __init__(self, toll: Toll) -> None:
        super().__init__(logging.ERROR)
        self._toll = toll

    def emit(self, record: logging.LogRecord) -> None:
        self._toll.trouble.append(self.format(record))


async def fuzz(folder: Path, *, frames: int, connections: int, seed: int) -> Toll:
    """Send so many frames over so many connections, at least; raises `AssertionError` with what went wrong."""
    toll = Toll()
    handler = Crash(toll)
    for name in ("fednet", "asyncio"):
        logging.getLogger(name).addHandler(handler)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: toll.trouble.append(str(context)))
    federation = Federation(folder, run_settings=settings(workers=PEERS, quorum=PEERS, rounds=100_000), grace_s=0.0)
    authority = authority_in(federation.certs)
    contexts = [worker_context(enrolled(federation.certs, f"client{number}", authority)) for number in range(PEERS)]
    listener = Listener()
    port = listener.bind("127.0.0.1", 0)[1]
    listener.serve_with(coordinator_context(federation.certs), federation.coordinator.reception.serve)
    serving = asyncio.create_task(federation.coordinator.run(listener))
    try:
        await asyncio.gather(
            *(
                _peer(port, context, random.Random(seed * PEERS + number), toll, frames, connections)
                for number, context in enumerate(contexts)
            )
        )
        assert not serving.done(), serving
        honest = await Puppet.joined(port, contexts[0])
        assert await honest.link.is_alive(), "an honest worker is served after all of it"
        honest.link.abort()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        federation.store.close()
        for name in ("fednet", "asyncio"):
            logging.getLogger(name).removeHandler(handler)
    assert not toll.trouble, toll.trouble[:3]
    return toll


async def _peer(
    port: int, context: ssl.SSLContext, chance: random.Random, toll: Toll, frames: int, connections: int
) -> None:
    fuzzer = Fuzzer(chance.randrange(2**32), connection=Connection(Role.COORDINATOR, State.JOINED))
    while toll.frames < frames or toll.connections < connections:
        with contextlib.suppress(FednetError, OSError, AssertionError):  # turned away: the link before is not gone yet
            link = (await Puppet.joined(port, context)).link
            toll.connections += 1
            try:
                await _send_until_dropped(link, fuzzer, chance, toll)
            finally:
                link.abort()


async def _send_until_dropped(link: Link, fuzzer: Fuzzer, chance: random.Random, toll: Toll) -> None:
    async def listen() -> None:
        while True:
            await link.receive()

    listening = asyncio.ensure_future(listen())
    transport: Any = link._transport
    for _ in range(20):
        batch = [
            fuzzer.damaged() if chance.random() < DAMAGED else fuzzer.harmless(_HARMLESS) for _ in range(_AT_A_TIME)
        ]
        transport.write(b"".join(batch))
        toll.frames += len(batch)
        await asyncio.sleep(0.001)
        if listening.done():
            toll.dropped += 1
            break
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


@click.command()
@click.option("--frames", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--connections", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def main(frames: int, connections: int, seed: int) -> None:
    """Fuzz, and say what was sent, dropped, and how memory grew."""
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(fuzz(Path(name) / "warm-up", frames=2000, connections=100, seed=seed + 1))
        before, began = _settled_bytes(), time.perf_counter()
        toll = asyncio.run(fuzz(Path(name) / "run", frames=frames, connections=connections, seed=seed))
    seconds, growth = time.perf_counter() - began, _settled_bytes() - before
    click.echo(
        f"{toll.frames} frames over {toll.connections} TLS connections in {seconds:.0f} s: {toll.dropped} dropped, the "
        f"coordinator went on; memory grew by {growth / 2**20:.1f} MiB"
    )
    refuse_growth(growth)


def _settled_bytes() -> int:
    give_back_memory()
    return anonymous_bytes()


if __name__ == "__main__":
    main()
