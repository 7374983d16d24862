"""Server-sent events: whoever watches gets the run's overview whenever it has changed, never more than once a second.

Source: WHATWG HTML, "Server-sent events". A slow watcher costs nobody else anything: it gets the newest overview when
it is ready for one, and what it missed meanwhile is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope, Send

from fednet.dashboard.feed import Feed, encoded
from fednet.errors import FednetError

EVERY_S = 1.0
HEARTBEAT_S = 10.0  # a comment, so that proxies keep the connection and a watcher that is gone is noticed
MAX_WATCHERS = 64  # each holds one overview at most: 0.5 MB for 1,000 workers


class Watch:
    """Looks at a feed as long as somebody waits for it: once a second, however many they are."""

    def __init__(self, feed: Feed, *, every_s: float = EVERY_S, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._feed = feed
        self._every_s = every_s
        self._heartbeat_s = heartbeat_s
        self._looking = asyncio.Lock()
        self._looked_s = float("-inf")
        self._text, self._event = "", b""
        self.watchers = 0

    async def events(self) -> AsyncIterator[bytes]:
        """Yield what goes to one watcher, without end: events, and comments while there is none."""
        told, told_s = b"", _now_s()
        while True:
            event = await self._newest()
            if event is not told:
                told, told_s = event, _now_s()
                yield event
            elif _now_s() - told_s >= self._heartbeat_s:
                told_s = _now_s()
                yield b": still here\n\n"
            await asyncio.sleep(max(0.0, self._looked_s + self._every_s - _now_s()))

    async def _newest(self) -> bytes:
        async with self._looking:
            if _now_s() - self._looked_s >= self._every_s:
                await asyncio.to_thread(self._look)
                self._looked_s = _now_s()
            return self._event

    def _look(self) -> None:
        try:
            name, text = "run", self._feed.look()
        except FednetError as exc:
            name, text = "gone", encoded({"error": str(exc)})
        if text != self._text:  # at once, where the feed has made no new one
            self._text, self._event = text, f"event: {name}\ndata: {text}\n\n".encode()


class EventStream:
    """One watcher's response; an ASGI application."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the watcher is gone; one that takes none is cut off by its connection."""
        self._watch.watchers += 1  # before anything is waited for: others are counted meanwhile
        sending, gone = asyncio.ensure_future(self._send_all(send)), asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watch.watchers -= 1
            for each in (sending, gone):
                each.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for event in self._watch.events():
            await send({"type": "http.response.body", "body": event, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _now_s() -> float:
    return asyncio.get_running_loop().time()
