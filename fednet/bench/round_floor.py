"""What a round without training cannot do without: its bytes through bare TLS both ways, written and synced."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fednet.bench.bare_tls import PIECE, BarePeers, bare_client
from fednet.security.contexts import coordinator_context, worker_context
from fednet.security.enrolment import Credentials

_CONNECTED_WITHIN_S = 60.0


def round_floor(
    certs: Path, workers: Sequence[Credentials], *, nbytes: int, repeats: int, folder: Path
) -> dict[str, list[float]]:
    """Return the seconds of each repeat, for one process and one stream a worker.

    `bare`: `nbytes` to and from every worker at once, hashed by the receiver; `unhashed`: the same without the hash;
    `disk`: as many bytes as came in, written to one file a worker in `folder` and synced.
    """
    spawn = multiprocessing.get_context("spawn")
    ports: list[multiprocessing.queues.Queue[int]] = [spawn.Queue() for _ in workers]
    clients = [
        spawn.Process(target=_be_client, args=(credentials, nbytes, repeats, port), daemon=True)
        for credentials, port in zip(workers, ports, strict=True)
    ]
    for client in clients:
        client.start()
    found = asyncio.run(_serve(certs, ports, nbytes, repeats))
    for client in clients:
        client.join()
    found["disk"] = [_written_and_synced(folder, len(workers), nbytes) for _ in range(repeats)]
    return found


async def _serve(
    certs: Path, ports: Sequence[multiprocessing.queues.Queue[int]], nbytes: int, repeats: int
) -> dict[str, list[float]]:
    peers = BarePeers(len(ports), nbytes)
    port = await peers.listen(coordinator_context(certs))
    for queue in ports:
        queue.put(port)
    async with asyncio.timeout(_CONNECTED_WITHIN_S):
        await peers.connected()
    found: dict[str, list[float]] = {"bare": [], "unhashed": []}
    for _ in range(repeats):
        for name, hashed in (("bare", True), ("unhashed", False)):
            began = time.perf_counter()
            await peers.send()
            await peers.take(hashed=hashed)
            found[name].append(time.perf_counter() - began)
    peers.close()
    return found


def _be_client(credentials: Credentials, nbytes: int, repeats: int, port: multiprocessing.queues.Queue[int]) -> None:
    asyncio.run(bare_client(port.get(), worker_context(credentials), nbytes, repeats))


def _written_and_synced(folder: Path, files: int, nbytes: int) -> float:
    piece = memoryview(bytes(PIECE))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        began = time.perf_counter()
        for number in range(files):
            with (Path(name) / f"{number}").open("wb", buffering=0) as file:
                for start in range(0, nbytes, PIECE):
                    file.write(piece[: min(PIECE, nbytes - start)])
                os.fsync(file.fileno())
        return time.perf_counter() - began
