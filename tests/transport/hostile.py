"""Peers that send whatever bytes they like over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl


async def send_over_tls(port: int, context: ssl.SSLContext, data: bytes, *, address: str = "127.0.0.1") -> None:
    """Send bytes over TLS, from `address`, until the coordinator hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, local_addr=(address, 0))
    writer.write(data)
    with contextlib.suppress(OSError):
        async with asyncio.timeout(10):
            while await reader.read(1000):
                pass
    writer.close()
