"""What the parts of a station share: its pieces, its status, and what is told when something happens to a job."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from judo_edge.errors import JudoEdgeError, first_line
from judo_edge.station.config import StationConfig
from judo_edge.station.hub.conditions import Conditions
from judo_edge.station.hub.crew import Crew
from judo_edge.station.hub.events import Broadcaster
from judo_edge.station.hub.flow import Flow
from judo_edge.station.hub.hooks import Gate, Watcher
from judo_edge.station.hub.jobs import OpenJob
from judo_edge.station.hub.looking import Looking
from judo_edge.station.hub.recipes import RecipeBook
from judo_edge.station.hub.tally import WINDOW, Tally
from judo_edge.station.hub.telling import Telling
from judo_edge.station.hub.verdicts import Finding
from judo_edge.station.ledger import reading, writing
from judo_edge.station.ledger.ledger import Ledger, LedgerError
from judo_edge.station.machine import StateMachine
from judo_edge.station.results import (
    Code,
    Condition,
    Counters,
    EventKind,
    Job,
    Recipe,
    Result,
    Severity,
    Status,
)
from judo_edge.station.states import Command, State, Transition
from judo_edge.station.workers import SPOOL_NAME, Spooled

_log = logging.getLogger(__name__)
LEAST_PATIENCE = 30.0
"""Seconds that an inspection may take at least before the inspector is given up."""
RECOVER_SECONDS = 10.0
"""How long the start waits for the verdicts that an earlier run owes."""
MAX_WATCHED = 10_000
"""Results that may wait for the watchers."""


class StationBase(Telling):
    """The pieces of a station; an `Owner` of its flow."""

    def __init__(
        self,
        config: StationConfig,
        ledger: Ledger,
        run_folder: Path,
        gates: Sequence[Gate],
        watchers: Sequence[Watcher],
        clock: Callable[[], float],
        patience: float | None,
    ) -> None:
        """Put the pieces together; nothing runs before `begin`."""
        table = config.station
        self.config, self.ledger, self.clock = config, ledger, clock
        self.gates, self.watchers = list(gates), list(watchers)
        self.spool = run_folder / SPOOL_NAME
        self.broadcaster = Broadcaster()
        self.machine = StateMachine(self._moved)
        self.conditions = Conditions(self._condition)
        self.crew = Crew([camera.name for camera in config.cameras], self.crew_changed)
        self.recipe_book = RecipeBook(config.recipes, self.crew, ledger)
        looking = Looking(self.crew, clock, patience or max(LEAST_PATIENCE, 3 * table.deadline), self._discard)
        self.flow = Flow(self, ledger, self.crew, looking, table.on_fault, self.spool, clock)
        self.tally = Tally(Counters(), 0, ())
        self.on_change: Callable[[], None] = lambda: None
        """Told of whatever may change the station's state."""
        self.is_simulating = False
        self.changing: Counter[str] = Counter()
        """Parts a reference of which is being taken away: none of them is OK until the new version is ready."""
        self.run: Job | None = None
        """What StartContinuous began."""
        self.single = ""
        """Id of the job of SingleExecution."""
        self.heartbeat = 0
        self.write_problem = ""
        """Why a verdict cannot be written at the moment."""
        self._watching: asyncio.Task[None] | None = None
        self._watched: asyncio.Queue[tuple[Result, Recipe | None]] = asyncio.Queue(MAX_WATCHED)

    async def begin(self) -> None:
        """Give what an earlier run left its verdicts, and take the figures over."""
        counters = await self.ledger.read(reading.counters)
        seconds = await self.ledger.read(reading.last_seconds, WINDOW)
        self.tally = Tally(counters, await self.ledger.read(reading.last_number), seconds)
        await self._recover()
        if self.config.station.is_automatic:
            await self.recipe_book.want_at_start()
        if self.ledger.damaged:
            text = f"the ledger was damaged and is kept as {self.ledger.damaged.name}; a new one was begun"
            self.conditions.tell("ledger", Severity.PERSISTENT_ERROR, text)
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def end(self) -> None:
        """End what runs beside, and close the ledger."""
        await self.flow.close()
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await asyncio.to_thread(self.ledger.close)

    async def _recover(self) -> None:
        """Give every job without a verdict RESTARTED; where the disk does not take them now, as soon as it does."""
        known = {one.internal_id: one for one in await self.ledger.read(reading.recipes)}
        finding = Finding(Code.RESTARTED, "the station was restarted between trigger and verdict")
        waiting = []
        for job in await self.ledger.read(reading.unanswered_jobs):
            one = OpenJob(job, known.get(job.recipe_id), self.clock())
            self.flow.decide(one, finding)
            waiting.append(one.result)
        if waiting:
            await asyncio.wait(waiting, timeout=RECOVER_SECONDS)

    # -- status --------------------------------------------------------------------------------------------------------
    def current_status(self) -> Status:
        """Return what a façade shows."""
        prepared = self.recipe_book.prepared()
        return Status(
            station=self.config.station.name,
            state=self.machine.state,
            is_simulating=self.is_simulating,
            recipes=prepared,
            running_job=self.flow.jobs.running,
            num_waiting=len(self.flow.jobs.undecided()),
            counters=self.tally.counters,
            processes=self.crew.processes,
            conditions=self.conditions.all(),
            challenge={one.external_id: self._gate_state(one.external_id) for one in prepared},
            latency=self.tally.latency(),
            last_number=self.tally.last_number,
            heartbeat=self.heartbeat,
        )

    def _gate_state(self, external_id: str) -> str:
        states = [gate.state(external_id) for gate in self.gates]
        return next((one for name in ("failed", "pending", "passed") for one in states if one == name), "none")

    # -- what others tell ----------------------------------------------------------------------------------------------
    def tell(self, name: str, severity: Severity, text: str) -> None:
        """Raise or change a condition; an empty text clears it."""
        self.conditions.tell(name, severity, text)

    def prepared(self) -> tuple[Recipe, ...]:
        """Return the prepared recipes."""
        return self.recipe_book.prepared()

    def crew_changed(self) -> None:
        """Hear that a worker came, went or fell ill, or that the disk did."""
        self.on_change()

    def audit(self, user: str, action: str, data: dict[str, Any]) -> None:
        """Note who did what, without waiting for it."""
        self.flow.spawn(self._beside(self.ledger.write(writing.add_audit, user, action, data)))

    def count(self, name: str, more: int, origin: str, reason: str) -> None:
        """Count triggers of which no verdict will come, and tell of them."""
        self.tally.count(name, more)
        self.broadcaster.publish(EventKind.MISSED, {"origin": origin, "reason": reason, "count": more})
        self.flow.spawn(self._beside(self.ledger.write(writing.count, name, more)))

    async def prepare_now(self, external_id: str, internal_id: str, is_last: bool = False) -> Recipe:
        """Make a version ready in any state; the version before it is put away."""
        before = {one.external_id: one for one in self.recipe_book.prepared()}.get(external_id)
        recipe = await self.recipe_book.prepare(external_id, internal_id, is_last)
        self.conditions.clear(f"recipe.{external_id}")
        self.conditions.tell(f"decision.{external_id}", Severity.WARNING, await self._lost_decision(recipe))
        if before and before.internal_id != recipe.internal_id:
            self.put_away(before)
        return recipe

    async def _lost_decision(self, recipe: Recipe) -> str:
        """Say that JUDO's words decide where a calibrated decision did before; empty otherwise."""
        if recipe.decision_version is not None:
            return ""
        earlier = [one for one in await self.recipe_book.versions() if one.external_id == recipe.external_id]
        if all(one.decision_version is None for one in earlier):
            return ""
        return (
            "JUDO's own words decide: bundle or references changed since the calibrated decision was made; "
            "judo-edge calibrate-decision makes one for these"
        )

    def put_away(self, recipe: Recipe) -> None:
        """Let the inspector close a version once no job needs it."""

        async def wait() -> None:
            needing = [
                one for one in self.flow.jobs.all() if one.recipe and one.recipe.internal_id == recipe.internal_id
            ]
            if needing:
                await asyncio.wait([one.result for one in needing])
            await self.recipe_book.put_away(recipe)

        self.flow.spawn(self._beside(wait()))

    def _discard(self, spooled: Spooled) -> None:
        self.flow.spawn(self.flow.remove_spooled(spooled.file))

    # -- helpers -------------------------------------------------------------------------------------------------------
    def _moved(self, transition: Transition) -> None:
        data = {
            "name": transition.name,
            "number": transition.number,
            "source": transition.source.value,
            "target": transition.target.value,
            "command": transition.command.value,
        }
        _log.info("state %s -> %s", transition.source.value, transition.target.value)
        self.broadcaster.publish(EventKind.TRANSITION, data)
        if transition.command is Command.AUTOMATIC and transition.target is State.ERROR:
            self.run, self.single = None, ""

    def _condition(self, condition: Condition) -> None:
        """Tell of a condition; the log says it too, for who has no page and no OPC UA client yet."""
        if condition.is_active and not condition.is_acknowledged:
            level = logging.WARNING if condition.severity is Severity.WARNING else logging.ERROR
            _log.log(level, "%s: %s", condition.name, condition.text)
        elif not condition.is_active and not condition.is_acknowledged:
            _log.info("%s: over", condition.name)
        self.broadcaster.publish(EventKind.CONDITION, condition.model_dump(mode="json"))

    async def _beside(self, work: Any) -> None:
        try:
            await work
        except (LedgerError, JudoEdgeError) as error:
            _log.warning("%s", first_line(error))
