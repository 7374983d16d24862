"""What a process needs for many connections: descriptors, small TLS buffers, and to give back what they leave."""

from __future__ import annotations

import asyncio.sslproto
import contextlib
import ctypes
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


def give_back_memory() -> None:
    """Hand freed memory back to the system.

    glibc keeps what connections have freed, in pieces between what lives on: 100 KiB for each of thousands that came
    and went. Elsewhere there is nothing to do.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
