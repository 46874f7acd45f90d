"""Listens to the station once and tells every browser: events, and whether the station is there at all.

A slow browser loses the oldest messages; their numbers show it the gap. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

from judo_edge.errors import JudoEdgeError
from judo_edge.station.api import StationApi
from judo_edge.station.results import EventKind

QUEUED = 500
"""Messages that may wait for one browser."""
SILENCE = 4.0
"""Seconds without any event (the station's heart beats once a second) after which it counts as away."""
_PAUSES = (0.2, 0.5, 1.0, 2.0)

_log = logging.getLogger(__name__)
Message = dict[str, Any]


class Watch:
    """The station as it is heard; `run` must be running."""

    def __init__(self, station: StationApi, silence: float = SILENCE) -> None:
        """Take the station; `silence` is in seconds."""
        self._station, self._silence = station, silence
        self._listeners: set[asyncio.Queue[Message | None]] = set()
        self.is_away = True
        self.status: Message = {}
        """The last that was heard; old while the station is away."""

    async def run(self) -> None:
        """Listen for ever, and again after the station was away."""
        failures = 0
        while True:
            try:
                async for _ in self._heard():
                    failures = 0
            except (JudoEdgeError, OSError, asyncio.TimeoutError) as error:
                _log.debug("the station is away: %s", error)
            except Exception:  # whatever it is, a page must not go on as if the station were there
                _log.exception("what the station tells cannot be read")
            self._note(is_away=True)
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1

    @contextlib.contextmanager
    def listening(self) -> Iterator[asyncio.Queue[Message | None]]:
        """Yield a queue of everything from now on."""
        queue: asyncio.Queue[Message | None] = asyncio.Queue(QUEUED)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    @property
    def num_listeners(self) -> int:
        """Count the browsers that listen."""
        return len(self._listeners)

    def message_of_presence(self) -> Message:
        """Return what a browser is told first: whether the station is there, and its last status."""
        return {"kind": "away" if self.is_away else "present", "data": self.status}

    async def _heard(self) -> AsyncIterator[None]:
        status = await asyncio.wait_for(self._station.status(), self._silence)
        self.status = status.model_dump(mode="json")
        events = self._station.events()
        self._note(is_away=False)
        while True:
            event = await asyncio.wait_for(_next(events), self._silence)
            if event is None:
                return
            if event.kind is EventKind.HEARTBEAT:
                self.status = event.data
            self._tell(event.model_dump(mode="json"))
            yield

    def close(self) -> None:
        """End every stream: the process stops."""
        for queue in self._listeners:
            _put(queue, None)

    def _note(self, is_away: bool) -> None:
        if is_away != self.is_away:
            self.is_away = is_away
            self._tell(self.message_of_presence())

    def _tell(self, message: Message) -> None:
        for queue in self._listeners:
            _put(queue, message)


def _put(queue: asyncio.Queue[Message | None], message: Message | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(message)


async def _next(events: AsyncIterator[Any]) -> Any:
    try:
        return await events.__anext__()
    except StopAsyncIteration:
        return None
