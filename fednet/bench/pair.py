"""The two processes of a bench: what this one does, unless the other ends before it."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from fednet.errors import FednetError

Result = TypeVar("Result")
AT_A_TIME = 8
"""Connections that a bench has greeted at one time: a coordinator takes 16 of one address."""


def started(be_workers: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, Pipe]:
    """Run `be_workers(*arguments, pipe)` as the other process; return it, and our end of the pipe."""
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=be_workers, args=(*arguments, theirs), daemon=True)
    other.start()
    theirs.close()  # so that a process which fails shows as the end of the pipe
    return other, ours


async def beside(other: BaseProcess, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what `work` does; raises `FednetError` where the other process fails before it is done."""
    working, ended = asyncio.ensure_future(work), asyncio.ensure_future(asyncio.to_thread(other.join))
    await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not working.done() and other.exitcode != 0:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        raise FednetError(f"the other process of this bench failed (exit {other.exitcode}): see above")
    return await working
