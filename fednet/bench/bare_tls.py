"""The reference for transfers: the same bytes through bare asyncio TLS streams, hashed or not, with no framing."""

from __future__ import annotations

import asyncio
import hashlib
import ssl

PIECE = 2**20  # bytes written, and read at most, at a time: larger pieces are no faster

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_GO = b"."


class BarePeers:
    """The reference's serving end: streams of `peers` clients, which send and take `nbytes` at its word."""

    def __init__(self, peers: int, nbytes: int) -> None:
        self._peers, self._nbytes = peers, nbytes
        self._arriving: asyncio.Queue[Stream] = asyncio.Queue()
        self._streams: list[Stream] = []
        self._server: asyncio.Server | None = None

    async def listen(self, context: ssl.SSLContext) -> int:
        """Take a port of the loopback address and return it."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._arriving.put((reader, writer))

        self._server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context, limit=PIECE)
        return int(self._server.sockets[0].getsockname()[1])

    async def connected(self) -> None:
        """Wait until all clients are there."""
        self._streams = [await self._arriving.get() for _ in range(self._peers)]

    async def send(self) -> None:
        """Send `nbytes` to every client at once, until each says that it has them."""
        await asyncio.gather(*(self._send_to(*stream) for stream in self._streams))

    async def take(self, *, hashed: bool) -> None:
        """Take `nbytes` from every client at once."""
        await asyncio.gather(*(self._take_from(*stream, hashed=hashed) for stream in self._streams))

    def close(self) -> None:
        """Hang up."""
        for _, writer in self._streams:
            writer.close()
        if self._server is not None:
            self._server.close()

    async def _send_to(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _write(writer, self._nbytes)
        await reader.readexactly(len(_GO))

    async def _take_from(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, hashed: bool) -> None:
        writer.write(_GO)
        await _read(reader, self._nbytes, hashed=hashed)


async def bare_client(port: int, context: ssl.SSLContext, nbytes: int, repeats: int) -> None:
    """Be one client: `repeats` times take and give, once hashing what is taken and once not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=PIECE)
    for _ in range(repeats):
        for hashed in (True, False):
            await _read(reader, nbytes, hashed=hashed)
            writer.write(_GO)
            await reader.readexactly(len(_GO))
            await _write(writer, nbytes)
    await reader.read()  # until the server, which has everything now, closes
    writer.close()


async def _write(writer: asyncio.StreamWriter, nbytes: int) -> None:
    payload = memoryview(bytes(PIECE))
    for start in range(0, nbytes, PIECE):
        writer.write(payload[: min(PIECE, nbytes - start)])
        await writer.drain()


async def _read(reader: asyncio.StreamReader, nbytes: int, *, hashed: bool) -> None:
    digest = hashlib.sha256()
    while nbytes:
        piece = await reader.read(min(PIECE, nbytes))
        if not piece:
            raise ConnectionError("the reference's peer went away")
        if hashed:
            digest.update(piece)
        nbytes -= len(piece)
