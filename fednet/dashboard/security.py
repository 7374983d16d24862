"""Who may look at the page, and what the page may do: pure checks, and an ASGI application around another one.

A page of a machine's own network is reachable by any web site that this machine's browser has open. So the Host header
must be one of ours (against DNS rebinding), no other site may frame, embed or read it, and off the loopback address a
token is asked for. Worker names and reasons are others' words: the policy lets no script run that is not a file here.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_COOKIE = "__Host-fednet"  # the prefix makes browsers insist on Secure, Path=/ and this very host (RFC 6265bis)
_HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
)
_METHODS = ("GET", "HEAD")


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who is let in."""

    hosts: Collection[str]  # what the Host header may say, in lower case, the port left out
    token: str | None = field(default=None, repr=False)  # None: everybody

    def refusal(self, *, method: str, host: str) -> tuple[int, str] | None:
        """Return (status, why) of a request that nobody may make."""
        if method not in _METHODS:
            return 405, f"method {method}; allowed are GET and HEAD: this page changes nothing"
        if host_of(host) not in self.hosts:
            return 403, f"host {host!r} is not this page's; it is one of {', '.join(sorted(self.hosts))}"
        return None

    def knows(self, said: Iterable[str]) -> bool:
        """Whether one of these is the token, or none is asked for."""
        return self.token is None or _is_one(self.token, said)

    def remembers(self, cookies: Iterable[str]) -> bool:
        """Whether one of these Cookie headers has what a browser keeps of the token."""
        if self.token is None:
            return True
        name, value = cookie_of(self.token)
        return _is_one(value, (cookie_parser(line).get(name, "") for line in cookies))


def cookie_of(token: str) -> tuple[str, str]:
    """Return (name, value) of the cookie by which a browser knows a token, which neither of them is.

    Cookies are not kept apart by port, so each page has a name of its own.
    """
    name, value = (hmac.digest(token.encode(), what, "sha256").hex() for what in (b"cookie's name", b"cookie's value"))
    return f"{_COOKIE}-{name[:16]}", value


def _is_one(secret: str, said: Iterable[str]) -> bool:
    return any(hmac.compare_digest(each.encode(), secret.encode()) for each in said)


def host_of(header: str) -> str:
    """Return the host in a Host header, without its port, in lower case: `[::1]:8733` is `[::1]`."""
    host, colon, port = header.rpartition(":")
    return (host if colon and port.isdigit() else header).lower()


class Guard:
    """An ASGI application: lets requests through that may pass, and puts the safety headers on every response."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return  # no websocket here
        answer = self._answer(scope) or self._app

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS:
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await answer(scope, receive, send_guarded)

    def _answer(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        refused = self._access.refusal(method=scope["method"], host=hosts[0] if len(hosts) == 1 else "")
        if refused is not None:
            status, reason = refused
            return JSONResponse({"error": reason}, status, {"allow": "GET, HEAD"} if status == 405 else None)
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if self._access.remembers(headers.getlist("cookie")) or self._access.knows(_bearers(headers)):
            return RedirectResponse(_path(scope), 303) if asked else None
        if not self._access.knows(asked):
            reason = "a token is needed: open the address that was printed when the page was started"
            return JSONResponse({"error": reason}, 401, {"www-authenticate": "Bearer"})
        response = RedirectResponse(_path(scope), 303)  # so that the token stays in no history
        name, value = cookie_of(asked[0])
        response.set_cookie(name, value, path="/", secure=True, httponly=True, samesite="strict")
        return response


def _path(scope: Scope) -> str:
    return "/" + str(scope["path"]).lstrip("/\\")  # `//elsewhere` is another host's page


def _bearers(headers: Headers) -> Sequence[str]:
    """Return the tokens of `Authorization: Bearer ...`: what a machine sends that reads /metrics."""
    said = [line.partition(" ") for line in headers.getlist("authorization")]
    return [token.strip() for scheme, _, token in said if scheme.lower() == "bearer"]
