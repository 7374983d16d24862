import asyncio
import time

from tests.loop_watch import LoopWatch


def test_a_blocking_callback_is_seen() -> None:
    async def block() -> None:
        time.sleep(0.05)  # noqa: ASYNC251 - the mistake that the watch is there for

    with LoopWatch(limit_s=0.02) as watch:
        asyncio.run(block())
    assert len(watch.blocked) == 1


def test_a_waiting_callback_is_not() -> None:
    with LoopWatch(limit_s=0.02) as watch:
        asyncio.run(asyncio.sleep(0.05))
    assert watch.blocked == []
