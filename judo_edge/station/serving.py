"""What a station offers over the wire: the methods of `StationApi`, with records in place of models.

The other side of `client`. Knows how arguments and answers are written down, and nothing of what they do.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from judo_edge.station.api import StationApi
from judo_edge.station.results import JobRequest, ResultQuery
from judo_edge.station.wire import Handlers

_PLAIN = (
    *("status", "halt", "reset", "select_automatic", "confirm_all", "simulate", "recipes", "prepare", "unprepare"),
    *("stop", "abort", "result", "acknowledge", "unacknowledged", "archive_file", "review", "references", "retire"),
    *("reference_file", "challenge"),
)
"""Methods whose arguments are plain values."""


def handlers_of_station(station: StationApi) -> Handlers:
    """Return the wire's methods over a station."""
    handlers: dict[str, Any] = {name: partial(_plain, getattr(station, name)) for name in _PLAIN}
    for name in ("start_single", "start_continuous", "trigger"):
        handlers[name] = partial(_requested, getattr(station, name))

    async def results(query: dict[str, Any]) -> Any:
        return _record(await station.results(ResultQuery.model_validate(query)))

    async def enroll(part: str, photo: str, source: str, user: str) -> Any:
        return _record(await station.enroll(part, Path(photo), source, user))

    async def live(camera: str) -> str:
        return base64.b64encode(await station.live(camera)).decode()

    async def events() -> AsyncIterator[Any]:
        async for event in station.events():
            yield _record(event)

    async def ask(result_id: str, question: str) -> AsyncIterator[str]:
        async for piece in station.ask(result_id, question):
            yield piece

    return {**handlers, "results": results, "enroll": enroll, "live": live, "events": events, "ask": ask}


async def _plain(method: Any, **params: Any) -> Any:
    return _record(await method(**params))


async def _requested(method: Any, request: dict[str, Any]) -> Any:
    return _record(await method(JobRequest.model_validate(request)))


def _record(value: Any) -> Any:
    """Return a value as JSON knows it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_record(one) for one in value]
    return value
