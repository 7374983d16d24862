"""The reference for transfers: the same bytes through bare asyncio TLS streams, with no framing and no hashing."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

from fednet.security.contexts import coordinator_context, worker_context
from fednet.security.enrolment import Credentials

_PIECE = 2**20


def serve_bare(certs: Path, peers: int, nbytes: int, repeats: int, port: int) -> list[float]:
    """Send `nbytes` to each of `peers` clients and take as many back, all at once; return seconds of each repeat."""
    return asyncio.run(_serve(coordinator_context(certs), peers, nbytes, repeats, port))


def bare_client(credentials: Credentials, nbytes: int, repeats: int, port: int) -> None:
    """Take `nbytes` and send as many back, `repeats` times."""
    asyncio.run(_client(worker_context(credentials), nbytes, repeats, port))


async def _serve(context: ssl.SSLContext, peers: int, nbytes: int, repeats: int, port: int) -> list[float]:
    streams: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    payload = memoryview(bytes(_PIECE))

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await streams.put((reader, writer))

    async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start in range(0, nbytes, _PIECE):
            writer.write(payload[: min(_PIECE, nbytes - start)])
            await writer.drain()
        await _take(reader, nbytes)

    server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=context, limit=_PIECE)
    connected = [await streams.get() for _ in range(peers)]
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        await asyncio.gather(*(exchange(reader, writer) for reader, writer in connected))
        seconds.append(time.perf_counter() - began)
    for _, writer in connected:
        writer.close()
    server.close()
    return seconds


async def _client(context: ssl.SSLContext, nbytes: int, repeats: int, port: int) -> None:
    payload = memoryview(bytes(_PIECE))
    for _ in range(100):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=_PIECE)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)  # the server is on its way up
    for _ in range(repeats):
        await _take(reader, nbytes)
        for start in range(0, nbytes, _PIECE):
            writer.write(payload[: min(_PIECE, nbytes - start)])
            await writer.drain()
    await reader.read()  # until the server, which has everything now, closes
    writer.close()


async def _take(reader: asyncio.StreamReader, nbytes: int) -> None:
    while nbytes:
        piece = await reader.read(_PIECE)
        if not piece:
            raise ConnectionError("the reference's peer went away")
        nbytes -= len(piece)
