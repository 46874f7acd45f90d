"""What a station tells of its jobs: verdicts, progress, alarms, and whether they can be written. The flow's `Owner`."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from judo_edge.errors import first_line
from judo_edge.station.config import StationConfig
from judo_edge.station.hub.conditions import Conditions
from judo_edge.station.hub.events import Broadcaster
from judo_edge.station.hub.hooks import Gate, Watcher
from judo_edge.station.hub.jobs import OpenJob
from judo_edge.station.hub.tally import Tally
from judo_edge.station.ledger import writing
from judo_edge.station.ledger.ledger import Ledger, LedgerError
from judo_edge.station.machine import StateMachine
from judo_edge.station.results import Code, EventKind, LateResult, Recipe, Result, Severity
from judo_edge.station.states import State
from judo_edge.station.workers import Kept

_log = logging.getLogger(__name__)


class Telling:
    """Hears from the flow and tells everybody; the station's pieces are set by `StationBase`."""

    config: StationConfig
    ledger: Ledger
    broadcaster: Broadcaster
    machine: StateMachine
    conditions: Conditions
    tally: Tally
    gates: list[Gate]
    watchers: list[Watcher]
    changing: Counter[str]
    on_change: Callable[[], None]
    """Told of whatever may change the station's state."""
    single: str
    """Id of the job of SingleExecution."""
    write_problem: str
    """Why a verdict cannot be written at the moment."""
    _watched: asyncio.Queue[tuple[Result, Recipe | None]]

    def held_back(self, recipe: Recipe | None) -> str:
        """Return why the station may not say OK, empty if it may."""
        if recipe is None:
            return "no recipe was ready"
        if recipe.part in self.changing:
            return f"the references of part {recipe.part} are being changed"
        return next((reason for gate in self.gates if (reason := gate.allows_ok(recipe))), "")

    def acquired(self, one: OpenJob) -> None:
        """Let the part leave, and the next one come."""
        if not one.is_part:
            return
        self.broadcaster.publish(EventKind.ACQUISITION_DONE, {"job_id": one.job_id})
        if self.single == one.job_id and self.machine.state is State.SINGLE_EXECUTION:
            self.single = ""
            self.machine.automatic(State.READY)
            self.broadcaster.publish(EventKind.READY, {"job_id": one.job_id})

    def progressed(self, one: OpenJob, record: dict[str, Any]) -> None:
        """Tell what is provisionally known of a part without a verdict."""
        if one.is_part and one.finding is None:
            self.broadcaster.publish(EventKind.PROGRESS, {**record, "job_id": one.job_id})

    def verdict(self, one: OpenJob, result: Result) -> None:
        """Tell a verdict that is on the disk."""
        self.tally.add(result)
        self.broadcaster.publish(EventKind.RESULT, result.model_dump(mode="json"))
        self.acquired_once(one)
        self._late_alarm()
        if self._watched.full():
            _log.warning("result %s is not watched", self._watched.get_nowait()[0].result_id)
        self._watched.put_nowait((result, one.recipe))

    def acquired_once(self, one: OpenJob) -> None:
        """Let the next part come after a verdict without a photo."""
        if not one.is_acquired:
            one.is_acquired = True
            self.acquired(one)

    def late(self, late: LateResult) -> None:
        """Tell what came after the verdict."""
        self.broadcaster.publish(EventKind.LATE, late.model_dump(mode="json"))

    def kept(self, result_id: str, kept: Kept) -> None:
        """Tell which files the archive holds."""
        data = {"result_id": result_id, "photo": kept.photo, "mask_file": kept.mask_file}
        self.broadcaster.publish(EventKind.EVIDENCE, data)

    def durable(self, problem: str) -> None:
        """Hear that a verdict cannot be written (why), or that it could be again (empty)."""
        if problem != self.write_problem:
            self.write_problem = problem
            self.on_change()

    async def probe(self) -> None:
        """Find out whether the ledger can be written again."""
        try:
            await self.ledger.write(writing.count, "probe", 0)
        except LedgerError as error:
            self.durable(first_line(error))
        else:
            self.durable("")

    @property
    def num_without_photo(self) -> int:
        """Return how many triggers were refused or missed so far."""
        return self.tally.num_without_photo

    def _late_alarm(self) -> None:
        late, limit = self.tally.late_in_a_row, self.config.station.late_alarm
        text = f"{limit} or more verdicts in a row were late" if late >= limit else ""
        self.conditions.tell("late", Severity.ERROR, text, int(Code.DEADLINE))

    async def _watch(self) -> None:
        while True:
            result, recipe = await self._watched.get()
            for watcher in list(self.watchers):
                await self._shown(watcher, result, recipe)

    async def _shown(self, watcher: Watcher, result: Result, recipe: Recipe | None) -> None:
        try:
            await watcher.on_result(result, recipe)
        except Exception as error:
            _log.error("watcher %s", type(watcher).__name__, exc_info=error)
