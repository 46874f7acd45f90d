"""Looks after the station: into Error when it cannot judge parts, out of it when it can, to Ready at start by itself.

Also the heartbeat, the disk's reserve and the photos that an earlier run left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from judo_edge.errors import JudoEdgeError, first_line
from judo_edge.station.hub.workers import Judge
from judo_edge.station.results import Code, EventKind, Severity
from judo_edge.station.states import State

if TYPE_CHECKING:
    from judo_edge.station.hub.base import StationBase

GRACE_SECONDS = 60.0
"""How long after the start a worker that has not come yet is not missed."""
UNUSED_SECONDS, SWEEP_SECONDS = 120.0, 20.0
"""How long a photo may lie in the spool folder without a job, and how often that is looked at."""
HEARTBEAT_SECONDS, RESERVE_SECONDS, PREPARE_AGAIN_SECONDS = 1.0, 5.0, 10.0

_log = logging.getLogger(__name__)


class Steward:
    """Keeps state and conditions in step with what is there."""

    def __init__(self, station: StationBase) -> None:
        """Take the station; nothing runs before `begin`."""
        self._station = station
        self.wants_ready = station.config.station.is_automatic
        """Whether the station goes to Ready by itself; a person who halts or resets it ends that."""
        self._ready_judge: Judge | None = None
        self._wake = asyncio.Event()
        self._is_patient = True
        self.is_stopping = False
        """Whether the supervisor ends the processes: that they go is then no fault."""
        self._tasks: list[asyncio.Task[None]] = []
        station.on_change = self.look

    async def begin(self) -> None:
        """Begin to look after the station."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(work)
            for work in (self._tend(), self._beat(), self._reserve(), self._grace(), self._sweep())
        ]
        self.look()

    async def close(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look(self) -> None:
        """Take note of a change: into Error at once, everything else as soon as it can be."""
        if self.is_stopping:
            return
        self._conditions()
        code, reason = self._unfit()
        station = self._station
        is_starting = station.machine.state is State.PREOPERATIONAL and not station.write_problem
        if code and not is_starting and station.machine.can_go(State.ERROR):
            station.machine.automatic(State.ERROR)
            station.broadcaster.publish(EventKind.ERROR, {"code": code, "reason": reason})
        self._wake.set()

    # -- fitness -------------------------------------------------------------------------------------------------------
    def _unfit(self) -> tuple[int, str]:
        """Return code and reason why parts cannot be judged; 0 when they can."""
        station = self._station
        if station.write_problem:
            return int(Code.INTERNAL), station.write_problem
        if station.crew.judge is None:
            return int(Code.INSPECTOR_LOST), "the inspector is not there"
        if not station.crew.is_any_camera_fit():
            return int(Code.CAMERA_UNPLUGGED), "no camera works"
        return 0, ""

    def _conditions(self) -> None:
        station = self._station
        is_missed = station.crew.judge is None and (station.crew.had_judge or not self._is_patient)
        text = "the inspector is not there" if is_missed else ""
        station.conditions.tell("process.inspector", Severity.ERROR, text, int(Code.INSPECTOR_LOST))
        for name in station.crew.cameras:
            code, text = station.crew.camera_fault(name, self._is_patient) or (0, "")
            station.conditions.tell(f"camera.{name}", Severity.ERROR, text, code)
        station.conditions.tell("ledger.write", Severity.ERROR, station.write_problem, int(Code.INTERNAL))

    # -- tending -------------------------------------------------------------------------------------------------------
    async def _tend(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._tend_once()
            except Exception as error:
                _log.error("internal fault", exc_info=error)
                await asyncio.sleep(1.0)
                self._wake.set()

    async def _tend_once(self) -> None:
        station = self._station
        judge = station.crew.judge
        if judge is not None and judge is not self._ready_judge and self._should_prepare():
            await self._prepare_wanted(judge)
        if self._unfit() != (0, "") or station.crew.judge is not self._ready_judge:
            return
        if station.machine.state is State.ERROR and station.config.station.is_automatic:
            station.machine.resolve(bool(station.prepared()))
            station.broadcaster.publish(EventKind.ERROR_RESOLVED)
        if self.wants_ready and station.machine.state is State.PREOPERATIONAL:
            station.machine.automatic(State.INITIALIZED)
        is_complete = station.crew.has_seen_all_cameras() or not self._is_patient
        if self.wants_ready and station.machine.state is State.INITIALIZED and station.prepared() and is_complete:
            station.machine.automatic(State.READY)

    def _should_prepare(self) -> bool:
        return self.wants_ready or self._station.machine.state is not State.PREOPERATIONAL

    async def _prepare_wanted(self, judge: Judge) -> None:
        """Prepare what is to be prepared in an inspector that has just come."""
        book = self._station.recipe_book
        failed = [name for name in list(book.wanted) if not await self._prepared_again(name)]
        if self._station.crew.judge is judge:
            self._ready_judge = judge
            if failed:
                self._tasks.append(asyncio.get_running_loop().create_task(self._retry(judge, failed)))

    async def _prepared_again(self, external_id: str) -> bool:
        """Prepare a wanted recipe; False when that failed, and a condition says why."""
        station, book = self._station, self._station.recipe_book
        judge = station.crew.judge
        if judge is None or external_id not in book.wanted:
            return True
        try:
            recipe = await station.prepare_now(external_id, book.wanted[external_id])
        except JudoEdgeError as error:
            if station.crew.judge is judge and external_id in book.wanted:
                book.drop(external_id)
                station.conditions.tell(f"recipe.{external_id}", Severity.ERROR, first_line(error))
            return False
        station.broadcaster.publish(EventKind.RECIPE_PREPARED, recipe.model_dump(mode="json"))
        return True

    async def _retry(self, judge: Judge, failed: Sequence[str]) -> None:
        """Try what failed again, beside everything else, for as long as this inspector is there and it is wanted."""
        book = self._station.recipe_book
        while failed and not self._station.flow.is_closing:
            await asyncio.sleep(PREPARE_AGAIN_SECONDS)
            if self._station.crew.judge is not judge:
                return
            ready = {recipe.external_id for recipe in book.prepared()}
            waiting = [name for name in failed if name in book.wanted and name not in ready]
            failed = [name for name in waiting if not await self._prepared_again(name)]
            self._wake.set()

    # -- clocks --------------------------------------------------------------------------------------------------------
    async def _beat(self) -> None:
        """Count up while the loop turns and the ledger's writer takes work."""
        while True:
            await self._station.ledger.turn()
            self._station.heartbeat += 1
            status = self._station.current_status().model_dump(mode="json")
            self._station.broadcaster.publish(EventKind.HEARTBEAT, status)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _reserve(self) -> None:
        while True:
            is_held = await self._station.ledger.hold_reserve()
            text = "" if is_held else "the disk is full: the room held back for verdicts is in use"
            self._station.conditions.tell("disk", Severity.ERROR, text)
            if self._station.write_problem and not self._station.flow.jobs.all():
                await self._station.probe()
            await asyncio.sleep(RESERVE_SECONDS)

    async def _grace(self) -> None:
        """After a while, miss workers that have not come."""
        await asyncio.sleep(GRACE_SECONDS)
        self._is_patient = False
        code, reason = self._unfit()
        if self._station.machine.state is State.PREOPERATIONAL and self.wants_ready and code:
            self._station.machine.automatic(State.ERROR)
            self._station.broadcaster.publish(EventKind.ERROR, {"code": code, "reason": reason})
        self.look()

    async def _sweep(self) -> None:
        """Remove photos that no job has used for a while: an earlier run left them, or a process that ended."""
        since: dict[str, float] = {}
        while True:
            names, now = await asyncio.to_thread(self._files_of_spool), time.monotonic()
            names -= {one.spooled.file for one in self._station.flow.jobs.all() if one.spooled}
            since = {name: since.get(name, now) for name in names}
            for name in [name for name, first in since.items() if now - first >= UNUSED_SECONDS]:
                await self._station.flow.remove_spooled(name)
            await asyncio.sleep(SWEEP_SECONDS)

    def _files_of_spool(self) -> set[str]:
        try:
            return {path.name for path in self._station.spool.iterdir() if path.is_file()}
        except OSError:
            return set()
