"""How many files and connections this process may have open: systems allow fewer at first than they would."""

from __future__ import annotations

import contextlib
import resource

_OTHERS = 256  # databases, libraries, logs, connections that are still being greeted
_FOR_A_WORKER = 3  # its connection, its update on disk, the same decoded


def allow_workers(count: int) -> bool:
    """Ask the system for as many descriptors as so many workers take; return whether it gives them."""
    needed = _OTHERS + _FOR_A_WORKER * count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return soft == resource.RLIM_INFINITY or soft >= needed
