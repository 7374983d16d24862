"""Measures every callback of every event loop, so that a blocking call is caught where it happens."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

BLOCKED_S = 1.0  # generous: CI's two cores are shared, and a real mistake (training on the loop) takes longer


class LoopWatch:
    """While entered, collects callbacks that ran for more than `limit_s`."""

    def __init__(self, limit_s: float = BLOCKED_S) -> None:
        self.blocked: list[str] = []
        self._limit_s = limit_s
        self._original = asyncio.Handle._run

    def __enter__(self) -> LoopWatch:
        original, limit_s, blocked = self._original, self._limit_s, self.blocked

        def timed(handle: asyncio.Handle) -> None:
            began = time.perf_counter()
            original(handle)
            took = time.perf_counter() - began
            if took > limit_s:
                blocked.append(f"{handle!r} for {took:.2f} s")

        asyncio.Handle._run = timed  # type: ignore[assignment, method-assign]  # the one place every callback passes
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.Handle._run = self._original  # type: ignore[method-assign]  # put back what was there
