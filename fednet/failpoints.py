"""Named places where a test can kill, fail or stall this process: `FEDNET_FAILPOINT=NAME:ACTION[:HIT]`.

A place costs nothing while no failpoint is armed. Nothing but the environment of the process arms one (TiKV's fail-rs
works alike).
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from dataclasses import dataclass

from fednet.errors import BadInput, StorageError

VARIABLE = "FEDNET_FAILPOINT"
_FORM = re.compile(r"([a-z.-]+):(die|fail|stall(?:=(\d+(?:\.\d+)?))?)(?::(\d+))?")
_STALL_S = 40.0  # longer than a silent peer is taken for alive (limits.DEAD_AFTER_S)

OF_COORDINATOR = (
    "coordinator.waiting",
    "coordinator.distributing",
    "coordinator.collecting",
    "coordinator.aggregating",
    "coordinator.evaluating",
    "coordinator.committing",
    "coordinator.finished",
    "coordinator.update-durable",  # its row is written; nobody has been told
    "coordinator.acknowledged",
    "coordinator.committed",  # the round's row is written; nobody has been told
)
OF_WORKER = (
    "worker.receiving",
    "worker.training",
    "worker.delivering",
    "worker.delivered",
    "worker.acknowledged",
    "worker.record-kept",
)
OF_FILES = (  # of both, but for those that only one of them does
    "disk.create",
    "disk.allocate",
    "disk.write",
    "disk.truncate",
    "disk.sync",
    "disk.rename",
    "disk.link",
    "disk.unlink",
    "disk.make-folder",
    "disk.remove-folder",
    "disk.sync-folder",
    "disk.commit",
    "disk.committed",
)
NOT_OF_COORDINATOR = ("disk.truncate",)
NOT_OF_WORKER = ("disk.allocate", "disk.link", "disk.unlink", "disk.remove-folder", "disk.commit", "disk.committed")


@dataclass
class _Armed:
    name: str
    action: str
    stall_s: float
    hits_left: int


_armed: list[_Armed] = []
"""At most one."""


def arm(text: str) -> None:
    """Arm what the text says, in place of what was armed; raises `BadInput`."""
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in (*OF_COORDINATOR, *OF_WORKER, *OF_FILES):
        wanted = "NAME:die, NAME:fail or NAME:stall=SECONDS, and :HIT"
        raise BadInput(f"{VARIABLE}={text}", expected=f"{wanted}; failpoints.py has the names")
    stall_s = float(found[3]) if found[3] else _STALL_S
    _armed[:] = [_Armed(found[1], found[2].partition("=")[0], stall_s, int(found[4] or 1))]


def disarm() -> None:
    """Let every place pass."""
    _armed.clear()


def reached(name: str) -> None:
    """Pass one place; where it is armed and this is its hit, what was asked for happens here."""
    if not _armed or _armed[0].name != name:
        return
    armed = _armed[0]
    armed.hits_left -= 1
    if armed.hits_left != 0:
        return
    if armed.action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif armed.action == "fail":
        raise OSError(errno.EIO, f"{os.strerror(errno.EIO)}, injected at {name}")
    else:
        time.sleep(armed.stall_s)


def reached_state(name: str) -> None:
    """Pass a place that no file operation stands behind; a failure injected there is a `StorageError`."""
    try:
        reached(name)
    except OSError as exc:
        raise StorageError(str(exc)) from exc
