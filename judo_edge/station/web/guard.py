"""What every request must pass before anything is done with it, and the headers that every answer carries.

A plain ASGI wrapper, because streams must pass through it. It refuses hosts that are not ours (a name that was rebound
to this machine), writes from another origin, and bodies that are too long. Knows no user.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from judo_edge.station.web.settings import WebSettings

MAX_BODY = 64 << 10
"""Bytes of a request, except for photos."""
MAX_PHOTO = 32 << 20
"""Bytes of a photo that is uploaded."""
PHOTO_PATH = "/api/references"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class TooLongError(HTTPException):
    """A body is longer than allowed."""

    def __init__(self, limit: int) -> None:
        """Answer 413."""
        super().__init__(413, f"a request of more than {limit} bytes")


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        """Take the application and how it is served."""
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, 403 or 413, or hand the request on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if refused := self._refusal(scope, headers):
            await _refuse(send, *refused)
            return
        await self._limited(scope, receive, send)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit, length = limit_of(scope), 0

        async def counted() -> Message:
            nonlocal length
            message = await receive()
            length += len(message.get("body", b""))
            if length > limit:
                raise TooLongError(limit)
            return message

        async def headed(message: Message) -> None:
            await send(_with_headers(message))

        await self._app(scope, counted, headed)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_ours(scope, host):
            return 400, "this station is not known by that host name"
        if scope["method"] not in ("GET", "HEAD") and not _is_same_origin(scope, host, headers):
            return 403, "a request from another origin"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > limit_of(scope):
            return 413, f"a request of more than {limit_of(scope)} bytes"
        return None

    def _is_ours(self, scope: Scope, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        server = scope.get("server") or ("", 0)
        return name in self._settings.names or name == server[0]


def limit_of(scope: Scope) -> int:
    """Return how many bytes the body of a request may have."""
    return MAX_PHOTO if scope["method"] == "POST" and scope["path"] == PHOTO_PATH else MAX_BODY


def _is_same_origin(scope: Scope, host: str, headers: Mapping[str, str]) -> bool:
    """Judge by what browsers say of where a request comes from; a program says nothing, and has no cookie to abuse."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        return origin.lower() == f"{scope['scheme']}://{host}".lower()
    return site is not None or "cookie" not in headers


def _with_headers(message: Message) -> Message:
    if message["type"] != "http.response.start":
        return message
    given = list(message.get("headers", ()))
    names = {name.lower() for name, _ in given}
    added = {**HEADERS, "cache-control": "no-store"}
    more = [(name.encode(), value.encode()) for name, value in added.items() if name.encode() not in names]
    return {**message, "headers": given + more}


async def _refuse(send: Send, status: int, found: str) -> None:
    body = json.dumps({"found": found, "wanted": "", "action": "", "number": -1}).encode()
    headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send(_with_headers({"type": "http.response.start", "status": status, "headers": headers}))
    await send({"type": "http.response.body", "body": body})
