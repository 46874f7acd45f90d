"""What watches over a station's quality in the hub: challenge parts, drift, and the archive's retention.

Hangs into the hub by its hooks. Everything that touches the disk runs in threads: no verdict ever waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from judo_edge.errors import JudoEdgeError, first_line
from judo_edge.station.archiverows import ArchiveRows
from judo_edge.station.challenge import FILE_NAME as CHALLENGE_FILE
from judo_edge.station.challenge import Challenge, Line
from judo_edge.station.config import StationConfig
from judo_edge.station.drift import Drift
from judo_edge.station.hub.hooks import Gate, Watcher
from judo_edge.station.ledger import writing
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.orphans import Orphans
from judo_edge.station.results import Severity
from judo_edge.station.retention import Retention

ARCHIVE, DRIFT = "archive", "drift"
"""Folders below the station's data; the first is also the name of retention's condition."""
BUSY_SECONDS, IDLE_SECONDS, CLOSE_SECONDS = 0.2, 10.0, 5.0
"""Between ticks of retention while there is more to remove, and otherwise; for a tick at the end."""

_log = logging.getLogger(__name__)


class Hub(Line, Protocol):
    """The hub as this sees it."""

    config: StationConfig
    ledger: Ledger
    gates: list[Gate]
    watchers: list[Watcher]


class Quality:
    """Gate, watcher and keeper of the archive of one station."""

    def __init__(self, hub: Hub) -> None:
        """Hang into the hub; nothing runs before `start`."""
        self._hub, config = hub, hub.config
        masters = config.path(config.challenge.masters)
        self._challenge = Challenge(config.challenge, masters, config.data / CHALLENGE_FILE, hub)
        hub.gates.append(self._challenge)
        hub.watchers.append(Drift(config.drift, config.data / DRIFT, hub.tell))
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Begin to judge challenge parts and to keep the archive."""
        self._tasks = [asyncio.create_task(self._challenge.run()), asyncio.create_task(self._retain())]

    async def close(self) -> None:
        """End; a tick of retention that is under way may take some seconds to do so."""
        self._closing.set()
        for task in self._tasks[:1]:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)

    async def _retain(self) -> None:
        """Keep the archive within its bounds, a few files at a time, until closed."""
        loop, ledger, archive = asyncio.get_running_loop(), self._hub.ledger, self._hub.config.archive

        def mark(result_ids: Sequence[str]) -> None:
            asyncio.run_coroutine_threadsafe(ledger.write(writing.remove_evidence, result_ids), loop).result()

        rows = await asyncio.to_thread(ArchiveRows, ledger.path, mark)
        try:
            await self._tick_until_closed(rows, archive)
        finally:
            rows.close()

    async def _tick_until_closed(self, rows: ArchiveRows, archive: Path) -> None:
        retention = Retention(self._hub.config.retention, archive, rows)
        orphans = Orphans(archive, rows.known, rows.began)
        while not self._closing.is_set():
            is_more = False
            try:
                tick = await asyncio.to_thread(retention.tick)
                is_more = tick.is_more
                self._hub.tell(ARCHIVE, tick.severity, tick.text)
                if not is_more:
                    await asyncio.to_thread(orphans.step)
            except Exception as error:
                if not isinstance(error, (JudoEdgeError, OSError)):
                    _log.exception("retention")
                self._hub.tell(ARCHIVE, Severity.WARNING, f"photos cannot be removed: {first_line(error)}")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closing.wait(), BUSY_SECONDS if is_more else IDLE_SECONDS)
