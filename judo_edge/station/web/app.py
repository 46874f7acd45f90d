"""The page's application: routes, errors and the guard around them. Knows no socket and no port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from judo_edge.errors import InputError, JudoEdgeError, StationError
from judo_edge.station.api import StationApi
from judo_edge.station.attempts import Attempts
from judo_edge.station.users import UserStore
from judo_edge.station.web import acting, login, reading, streams
from judo_edge.station.web.desk import Desk
from judo_edge.station.web.guard import Guard
from judo_edge.station.web.pictures import Pictures
from judo_edge.station.web.sessions import Sessions
from judo_edge.station.web.settings import WebSettings
from judo_edge.station.web.watch import Watch
from judo_edge.station.wire import LostError


def desk_from_station(station: StationApi, users: UserStore, settings: WebSettings) -> Desk:
    """Return what the routes share."""
    sessions = Sessions(settings.idle_seconds)
    return Desk(station, users, settings, sessions, Attempts(), Watch(station), Pictures())


def app_from_desk(desk: Desk) -> ASGIApp:
    """Return the application; its lifespan listens to the station."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        listening = asyncio.create_task(desk.watch.run())
        try:
            yield
        finally:
            listening.cancel()

    app = FastAPI(title="judo-edge", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.desk = desk
    for router in (login.router, streams.router, acting.router, reading.router):
        app.include_router(router)
    app.add_exception_handler(JudoEdgeError, _station_refused)
    app.add_exception_handler(HTTPException, _http_refused)
    app.add_exception_handler(RequestValidationError, _body_refused)
    return Guard(app, desk.settings)


async def _station_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, JudoEdgeError)
    status = 503 if isinstance(error, LostError) else 409 if isinstance(error, StationError) else 500
    if isinstance(error, InputError):
        status = 400
    number = error.number if isinstance(error, StationError) else -1
    return _refusal(status, error.found, error.wanted, error.action, number)


async def _http_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    found = str(error.detail) or HTTPStatus(error.status_code).phrase
    return _refusal(error.status_code, found, headers=dict(error.headers or {}))


async def _body_refused(_: Request, error: Exception) -> Response:
    """Name the key at fault; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    fault: dict[str, Any] = error.errors()[0]
    return _refusal(422, f"request: {'.'.join(map(str, fault['loc'][1:]))}", str(fault["msg"]))


def _refusal(
    status: int, found: str, wanted: str = "", action: str = "", number: int = -1, headers: dict[str, str] | None = None
) -> Response:
    record = {"found": found, "wanted": wanted, "action": action, "number": number}
    return JSONResponse(record, status, headers)
