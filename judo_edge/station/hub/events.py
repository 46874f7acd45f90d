"""Tells everybody who listens what happens in the station; a slow listener loses the oldest and sees the gap."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from judo_edge.station.results import EventKind, StationEvent, utc_now

MAX_QUEUED = 1000
"""Events that may wait for one listener."""


class _Listener:
    def __init__(self) -> None:
        self.queue: deque[StationEvent] = deque(maxlen=MAX_QUEUED)
        self.wake = asyncio.Event()


class Broadcaster:
    """Numbers events and hands them to all who listen."""

    def __init__(self) -> None:
        """Begin without listeners."""
        self._number = 0
        self._listeners: list[_Listener] = []

    def publish(self, kind: EventKind, data: dict[str, Any] | None = None) -> None:
        """Tell everybody; never waits."""
        self._number += 1
        event = StationEvent(number=self._number, kind=kind, at=utc_now(), data=data or {})
        for listener in self._listeners:
            listener.queue.append(event)
            listener.wake.set()

    async def _listen(self, listener: _Listener) -> AsyncIterator[StationEvent]:
        try:
            while True:
                while listener.queue:
                    yield listener.queue.popleft()
                listener.wake.clear()
                await listener.wake.wait()
        finally:
            self._listeners.remove(listener)

    def events(self) -> AsyncIterator[StationEvent]:
        """Yield events from this call on."""
        listener = _Listener()
        self._listeners.append(listener)
        return self._listen(listener)
