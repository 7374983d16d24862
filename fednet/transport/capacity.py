"""What a process needs for many connections: descriptors, of which systems give few at first, and small TLS buffers."""

from __future__ import annotations

import asyncio.sslproto
import contextlib
import resource

_OTHERS = 256  # databases, libraries, logs, connections that are still being greeted
_FOR_A_WORKER = 3  # its connection, its update on disk, the same decoded
_MANY = 64  # connections from which their buffers weigh more than a few per cent of goodput
_TLS_READ_BYTES = 2**16  # asyncio's own 256 KiB, and OpenSSL's copy of them, take 300 MiB more for a thousand workers


def allow_workers(count: int) -> bool:
    """Prepare this process for so many workers; return whether the system gives it the descriptors they take."""
    if count > _MANY:
        asyncio.sslproto.SSLProtocol.max_size = _TLS_READ_BYTES
    needed = _OTHERS + _FOR_A_WORKER * count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return soft == resource.RLIM_INFINITY or soft >= needed
