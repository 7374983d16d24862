"""One process among those that `torchrun` has started: its place, its threads, and what the first tells the others."""

from __future__ import annotations

import atexit
import datetime
import json
import os
import secrets
import time
from typing import Any

import torch
import torch.distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

_WAITS = datetime.timedelta(days=365)  # the others hear nothing while hospitals train, or while there is no round
_POLL_S = 0.05


def join() -> tuple[int, int]:
    """Join the other processes, over gloo; return (rank, how many there are), which is (0, 1) without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return 0, 1
    store, rank, size = next(rendezvous("env://", timeout=_WAITS))
    fresh = PrefixStore(_name_of_this_start(store, rank, size), store)
    torch.distributed.init_process_group("gloo", store=fresh, rank=rank, world_size=size, timeout=_WAITS)
    atexit.register(_leave)  # without it, gloo's threads abort one exit in ten or so
    return rank, size


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _name_of_this_start(store: Store, rank: int, size: int) -> str:
    """Return what the processes of this start are called among themselves.

    torchrun keeps its store when it starts them again, and with it the addresses of those that have ended: whoever came
    first would find these (pytorch issue 135712). So each asks with a word of its own, and goes by the answer to that.
    """
    own = secrets.token_hex(8)
    if rank > 0:
        store.set(f"asks/{rank}", own)
        name: str = store.get(f"answer/{own}").decode()
        store.set(f"heard/{name}/{rank}", "")
        return name
    others = set(range(1, size))
    while others:
        for other in sorted(others):
            if store.check([f"asks/{other}"]):
                store.set(f"answer/{store.get(f'asks/{other}').decode()}", own)
            if store.check([f"heard/{own}/{other}"]):
                others.remove(other)
        time.sleep(_POLL_S)
    return own


def own_threads() -> int:
    """Return how many CPU threads are this process's part of the machine."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def is_started_again() -> bool:
    """Whether torchrun starts all processes again, should one of them fail (`--max-restarts`)."""
    done, most = (int(os.environ.get(f"TORCHELASTIC_{name}", "0")) for name in ("RESTART_COUNT", "MAX_RESTARTS"))
    return done < most


def tell(document: dict[str, Any]) -> None:
    """Tell every other process what it is waiting to hear; JSON types only."""
    content = torch.tensor(list(json.dumps(document).encode()), dtype=torch.uint8)
    torch.distributed.broadcast(torch.tensor([len(content)]), src=0)
    torch.distributed.broadcast(content, src=0)


def heard() -> dict[str, Any]:
    """Wait for what the first process tells."""
    size = torch.zeros(1, dtype=torch.int64)
    torch.distributed.broadcast(size, src=0)
    content = torch.zeros(int(size), dtype=torch.uint8)
    torch.distributed.broadcast(content, src=0)
    document: dict[str, Any] = json.loads(bytes(content.tolist()))
    return document
