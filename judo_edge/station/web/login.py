"""Signing in and out, and the files of the page."""

from __future__ import annotations

import hashlib
import hmac
import html
import secrets
from functools import cache
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from judo_edge.station.users import User
from judo_edge.station.web.desk import Caller, Desk, desk_of, operator, viewer

router = APIRouter()
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_NONCE = "judo-sign-in"
_WRONG = "Name or password is wrong."
_NOBODY = "There is no user yet: add one by 'judo-edge station user add'."


@router.get("/")
async def page(request: Request) -> Response:
    """Show the page, or the form to sign in."""
    if desk_of(request).session(request, is_use=True) is None:
        return RedirectResponse("/login", 303)
    return HTMLResponse(static_files()["index.html"][0])


@router.get("/login")
async def login_form(request: Request) -> Response:
    """Show the form to sign in."""
    return _form(desk_of(request), "")


@router.post("/login")
async def login(request: Request) -> Response:
    """Begin a session."""
    desk = desk_of(request)
    fields = _fields((await request.body()).decode("utf-8", "replace"))
    name, password, token = (fields.get(key, [""])[0] for key in ("name", "password", "token"))
    nonce = request.cookies.get(_NONCE, "")
    if not nonce or not hmac.compare_digest(_token(desk, nonce).encode(), token.encode("utf-8", "replace")):
        return _form(desk, "The form was too old. Please try again.", 403)
    try:
        user = await desk.signed_in(request, name, password)
    except HTTPException as error:
        wait = (error.headers or {}).get("retry-after", "60")
        return _form(desk, f"Too many attempts. Try again in {wait} s.", 429, {"retry-after": wait})
    return _begun(desk, request, user) if user else _form(desk, _WRONG, 401)


@router.post("/logout")
async def logout(request: Request, caller: Annotated[Caller, Depends(operator)]) -> Response:
    """End the session."""
    desk = desk_of(request)
    desk.sessions.end(request.cookies.get(desk.cookie, ""))
    answer = JSONResponse({})
    answer.delete_cookie(desk.cookie, path="/", secure=desk.settings.is_secure, httponly=True, samesite="strict")
    return answer


@router.get("/api/me")
async def me(caller: Annotated[Caller, Depends(viewer)]) -> dict[str, str]:
    """Tell the page who is signed in, and the token of its POSTs."""
    return {"name": caller.user.name, "role": caller.user.role.value, "csrf": caller.csrf}


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    """Send one of the page's own files; no path is made of the name."""
    if name not in static_files():
        raise HTTPException(404, "no such file")
    data, digest = static_files()[name]
    headers = {"cache-control": "no-cache", "etag": f'"{digest}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=_TYPES[Path(name).suffix], headers=headers)


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Return the page's files by name, and their digests."""
    folder = Path(__file__).parent / "static"
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES}
    return {name: (data, hashlib.sha256(data).hexdigest()[:32]) for name, data in found.items()}


def _begun(desk: Desk, request: Request, user: User) -> Response:
    desk.sessions.end(request.cookies.get(desk.cookie, ""))
    session_id = desk.sessions.begin(user.name, desk.users.stamp(user.name))
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        desk.cookie, session_id, path="/", httponly=True, samesite="strict", secure=desk.settings.is_secure
    )
    return answer


def _form(desk: Desk, message: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return the form; its token belongs to a cookie that only this browser has."""
    nonce = secrets.token_urlsafe(24)
    note = message or ("" if desk.users.list() else _NOBODY)
    text = static_files()["login.html"][0].decode()
    text = text.replace("{{token}}", _token(desk, nonce)).replace("{{message}}", html.escape(note))
    answer = HTMLResponse(text, status, headers)
    answer.set_cookie(_NONCE, nonce, path="/login", httponly=True, samesite="strict", secure=desk.settings.is_secure)
    return answer


def _fields(body: str) -> dict[str, list[str]]:
    try:
        return parse_qs(body, max_num_fields=10)
    except ValueError:
        raise HTTPException(400, "too many fields") from None


def _token(desk: Desk, nonce: str) -> str:
    return hmac.new(desk.secret, b"sign-in " + nonce.encode(), hashlib.sha256).hexdigest()
