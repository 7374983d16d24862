"""The page's routes: what is served of a run, and as what; read-only."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from fednet.dashboard.events import MAX_WATCHERS, EventStream, Watch
from fednet.dashboard.feed import Feed, encoded
from fednet.dashboard.security import Access, Guard
from fednet.errors import BadInput, FednetError

_STATIC = Path(__file__).parent / "static"
_NUMBER = re.compile("[0-9]{1,9}")
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' text format


def dashboard_app(feed: Feed, access: Access, *, watch: Watch | None = None) -> ASGIApp:
    """Return the ASGI application that shows this run to whom `access` lets in."""
    watching = watch or Watch(feed)

    async def page(request: Request) -> Response:
        return FileResponse(_STATIC / "index.html", headers={"cache-control": "no-store"})

    async def run(request: Request) -> Response:
        return _json(await run_in_threadpool(feed.look))

    async def verdicts(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not _NUMBER.fullmatch(after):
            return _error(400, f"after={after[:20]!r} is no number of rounds")
        return _json(encoded(await run_in_threadpool(lambda: feed.verdicts(after=int(after)))))

    async def one_round(request: Request) -> Response:
        asked: str = request.path_params["number"]
        if not _NUMBER.fullmatch(asked):
            return _error(404, f"round {asked[:20]!r} is no number of a round")
        return _json(await run_in_threadpool(feed.round, int(asked)))

    async def metrics(request: Request) -> Response:
        from fednet.dashboard.metrics import exposition  # prometheus-client: a page that nobody scrapes has none

        return Response(await run_in_threadpool(lambda: exposition(feed.overview())), media_type=_METRICS_TYPE)

    async def events(request: Request) -> Response | EventStream:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if watching.watchers >= MAX_WATCHERS:
            return _error(503, f"{MAX_WATCHERS} pages watch this run already: close one")
        return EventStream(watching)

    routes = [
        Route("/", page),
        Route("/api/run", run),
        Route("/api/verdicts", verdicts),
        Route("/api/rounds/{number}", one_round),
        Route("/events", events),
        Route("/metrics", metrics),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    handlers = {HTTPException: _http_error, FednetError: _failure}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), access)


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


def _error(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status)


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return _error(exc.status_code, f"{request.url.path}: {exc.detail}")


async def _failure(request: Request, exc: Exception) -> Response:
    return _error(404 if isinstance(exc, BadInput) else 503, str(exc))
