"""What all routes share: the station, the users, who asks, and what he may do.

Two ways in: the session of a browser, whose writes must repeat the session's token, and HTTP Basic for programs, whose
writes must be JSON (which no form of another origin can send).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from starlette.exceptions import HTTPException
from starlette.requests import Request

from judo_edge.station.api import StationApi
from judo_edge.station.attempts import Attempts
from judo_edge.station.users import Role, User, UserStore
from judo_edge.station.web.pictures import Pictures
from judo_edge.station.web.sessions import Session, Sessions
from judo_edge.station.web.settings import WebSettings
from judo_edge.station.web.watch import Watch

CSRF_HEADER = "x-csrf-token"
_BASIC_SECONDS = 60.0
"""How long a program's right password is remembered, so that each call does not cost a scrypt."""
_MAX_BASIC = 100


@dataclass
class Desk:
    """The shared things of one process."""

    station: StationApi
    users: UserStore
    settings: WebSettings
    sessions: Sessions
    attempts: Attempts
    watch: Watch
    pictures: Pictures
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    checking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Passwords that are looked at at a time."""
    basic: OrderedDict[bytes, tuple[User, str, float]] = field(default_factory=OrderedDict)

    @property
    def cookie(self) -> str:
        """Return the name of the session's cookie; under TLS browsers guard the prefix."""
        return "__Host-judo-session" if self.settings.is_secure else "judo-session"

    def session(self, request: Request, is_use: bool) -> Session | None:
        """Return the session of a request; none if the user has gone or changed since sign-in."""
        session_id = request.cookies.get(self.cookie, "")
        session = self.sessions.find(session_id, is_use)
        if session is not None and self.users.stamp(session.user) != session.stamp:
            self.sessions.end(session_id)
            return None
        return session

    async def signed_in(self, request: Request, name: str, password: str) -> User | None:
        """Check a password; HTTPException 429 while too many were wrong."""
        keys = (f"user {name}", f"address {request.client.host if request.client else ''}")
        if (wait := self.attempts.wait(keys)) > 0:
            raise HTTPException(429, "too many attempts", {"retry-after": str(int(wait) + 1)})
        self.attempts.count(keys)
        async with self.checking:
            user = await asyncio.to_thread(self.users.check, name, password)
        if user is not None:
            self.attempts.forget(keys)
        return user


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    user: User
    csrf: str = ""


def desk_of(request: Request) -> Desk:
    """Return the shared things."""
    return cast(Desk, request.app.state.desk)


async def viewer(request: Request) -> Caller:
    """Let a session look on; that does not keep it from ending as idle."""
    return _caller_of_session(request, Role.OPERATOR, is_use=False)


async def operator(request: Request) -> Caller:
    """Let a session in."""
    return _caller_of_session(request, Role.OPERATOR)


async def engineer(request: Request) -> Caller:
    """Let an engineer's session in."""
    return _caller_of_session(request, Role.ENGINEER)


async def program(request: Request) -> Caller:
    """Let a session or a program in."""
    if "authorization" not in request.headers:
        return _caller_of_session(request, Role.OPERATOR, is_use=request.method != "GET")
    caller = await _caller_of_basic(request)
    _check_json(request)
    return caller


def _caller_of_session(request: Request, role: Role, is_use: bool = True) -> Caller:
    desk = desk_of(request)
    session = desk.session(request, is_use)
    user = desk.users.get(session.user) if session else None
    if session is None or user is None:
        raise _unauthorised(request)
    if request.method not in ("GET", "HEAD"):
        given = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(given.encode(), session.csrf.encode()):
            raise HTTPException(403, "the request lacks the session's token; load the page again")
        if not _is_photo(request):
            _check_json(request)
    if not user.role.covers(role):
        raise HTTPException(403, f"only an {role.value} may do that")
    return Caller(user, session.csrf)


async def _caller_of_basic(request: Request) -> Caller:
    desk = desk_of(request)
    name, password = _credentials(request)
    key = hmac.digest(desk.secret, f"{name}\0{password}".encode("utf-8", "surrogatepass"), hashlib.sha256)
    known = desk.basic.get(key)
    if known and known[2] > time.monotonic() and desk.users.stamp(name) == known[1]:
        return Caller(known[0])
    stamp = desk.users.stamp(name)
    user = await desk.signed_in(request, name, password)
    if user is None:
        raise _unauthorised(request)
    desk.basic[key] = (user, stamp, time.monotonic() + _BASIC_SECONDS)
    while len(desk.basic) > _MAX_BASIC:
        desk.basic.popitem(last=False)
    return Caller(user)


def _credentials(request: Request) -> tuple[str, str]:
    scheme, _, text = request.headers["authorization"].partition(" ")
    try:
        name, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError as error:  # no base64, no ASCII, no UTF-8
        raise _unauthorised(request) from error
    if scheme.lower() != "basic" or not colon:
        raise _unauthorised(request)
    return name, password


def _unauthorised(request: Request) -> HTTPException:
    """Ask programs for a password; a browser would show a dialog of its own, and the page has a better one."""
    is_browser = "sec-fetch-mode" in request.headers
    headers = None if is_browser else {"www-authenticate": 'Basic realm="judo-edge", charset="UTF-8"'}
    return HTTPException(401, "nobody is signed in", headers)


def _check_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method not in ("GET", "HEAD") and kind != "application/json":
        raise HTTPException(415, "the request is not application/json")


def _is_photo(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("image/")


def upload_folder(desk: Desk) -> Path:
    """Return the folder for photos between upload and enrolment, for this user only."""
    desk.settings.uploads.mkdir(parents=True, exist_ok=True, mode=0o700)
    return desk.settings.uploads
