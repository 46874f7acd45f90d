"""Server-sent events: what the station tells, for as long as the session lasts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse

from judo_edge.station.web.desk import Caller, Desk, desk_of, viewer

router = APIRouter()
MAX_STREAMS = 50
"""Browsers that look on at a time."""
_BREATH = 2.0
"""Seconds after which something is sent even while the station is away, so that a browser knows us to be there."""


@router.get("/api/events")
async def events(request: Request, caller: Annotated[Caller, Depends(viewer)]) -> StreamingResponse:
    """Stream presence first, then every event in its order; a browser fetches what it missed by result numbers."""
    desk = desk_of(request)
    if desk.watch.num_listeners >= MAX_STREAMS:
        raise HTTPException(503, "too many pages are open")
    return StreamingResponse(_events(desk, request), media_type="text/event-stream")


async def _events(desk: Desk, request: Request) -> AsyncIterator[str]:
    with desk.watch.listening() as queue:
        yield f"retry: 1000\n{_line(desk.watch.message_of_presence())}"
        while desk.session(request, is_use=False) is not None:
            try:
                message: dict[str, Any] | None = await asyncio.wait_for(queue.get(), _BREATH)
            except asyncio.TimeoutError:
                message = desk.watch.message_of_presence() if desk.watch.is_away else {"kind": "breath"}
            if message is None:
                return
            yield _line(message)
    yield _line({"kind": "signed-out"})


def _line(message: dict[str, Any]) -> str:
    return f"data: {json.dumps(message)}\n\n"
