"""The station: `StationApi` over state machine, ledger, workers and the flow of jobs.

Everything runs in one event loop that never waits for a disk, a camera or a model.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from judo_edge.station.config import StationConfig
from judo_edge.station.hub.accepting import Accepting
from judo_edge.station.hub.hooks import Challenger, Gate, Watcher
from judo_edge.station.hub.people import People
from judo_edge.station.hub.steward import Steward
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.results import (
    EventKind,
    Job,
    JobRequest,
    Recipe,
    Result,
    StationEvent,
    Status,
    utc_now,
)
from judo_edge.station.states import Command, State
from judo_edge.station.workers import Spooled


class Station(People):
    """A station; `start` it, hand it its workers through `crew`, and `close` it at the end."""

    def __init__(
        self,
        config: StationConfig,
        ledger: Ledger,
        run_folder: Path,
        gates: Sequence[Gate] = (),
        watchers: Sequence[Watcher] = (),
        clock: Callable[[], float] = time.monotonic,
        patience: float | None = None,
    ) -> None:
        """Take an open ledger; `patience`: seconds that an inspection may take before the inspector is given up."""
        super().__init__(config, ledger, run_folder, gates, watchers, clock, patience)
        self._accepting = Accepting(self)
        self.steward = Steward(self)

    # -- life ----------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Give every job of an earlier run its verdict, then begin to work."""
        await self.begin()
        await self.steward.begin()

    async def close(self) -> None:
        """Accept nothing more, let every job have its verdict, then end."""
        self.flow.is_closing = True
        await self.flow.drain()
        await self.steward.close()
        await self.end()

    # -- states --------------------------------------------------------------------------------------------------------
    async def status(self) -> Status:
        """See StationApi."""
        return self.current_status()

    async def halt(self, cause: int, description: str) -> None:
        """See StationApi."""
        self.machine.command(Command.HALT)
        self.steward.wants_ready = False
        self._end_execution(f"halted: {description}" if description else "halted", is_abort=True)
        self.audit("", "halt", {"cause": cause, "description": description})

    async def reset(self, cause: int, description: str) -> None:
        """See StationApi."""
        self.machine.command(Command.RESET)
        self.steward.wants_ready = False
        self._end_execution(f"reset: {description}" if description else "reset", is_abort=True)
        for recipe in self.recipe_book.forget_all():
            self.put_away(recipe)
        self.audit("", "reset", {"cause": cause, "description": description})

    async def select_automatic(self) -> None:
        """See StationApi."""
        self.machine.command(Command.SELECT_MODE_AUTOMATIC)
        self.steward.look()

    async def confirm_all(self, comment: str, user: str = "") -> None:
        """See StationApi."""
        self.conditions.confirm_all()
        self.audit(user, "confirm_all", {"comment": comment})

    async def simulate(self, is_on: bool) -> None:
        """See StationApi."""
        self.is_simulating = is_on
        self.audit("", "simulate", {"is_on": is_on})

    # -- recipes -------------------------------------------------------------------------------------------------------
    async def recipes(self) -> tuple[Recipe, ...]:
        """See StationApi."""
        return await self.recipe_book.versions()

    async def prepare(self, external_id: str, internal_id: str = "") -> Recipe:
        """See StationApi."""
        self.recipe_book.known(external_id)
        self._check_preparing()
        recipe = await self.prepare_now(external_id, internal_id, is_last=True)
        await self.recipe_book.choose(external_id, internal_id, is_last=True)
        if self.machine.state is State.INITIALIZED:
            self.machine.command(Command.PREPARE_RECIPE)
        self.broadcaster.publish(EventKind.RECIPE_PREPARED, recipe.model_dump(mode="json"))
        return recipe

    async def unprepare(self, external_id: str) -> Recipe:
        """See StationApi."""
        self._check_preparing()
        recipe = await self.recipe_book.unprepare(external_id)
        if not self.recipe_book.prepared() and self.machine.state is State.READY:
            self.machine.command(Command.UNPREPARE_RECIPE)
        self.put_away(recipe)
        return recipe

    # -- jobs ----------------------------------------------------------------------------------------------------------
    async def start_single(self, request: JobRequest) -> Job:
        """See StationApi."""
        return await self._accepting.start_single(request)

    async def start_continuous(self, request: JobRequest) -> Job:
        """See StationApi."""
        self.machine.check(Command.START_CONTINUOUS)
        recipe = self.recipe_book.for_job(request.recipe)
        if self.crew.cameras or request.camera:
            self.crew.name_of(request.camera)
        job = Job(
            job_id=uuid.uuid4().hex, request=request, recipe_id=recipe.internal_id, created=utc_now(), deadline=0.0
        )
        self.machine.command(Command.START_CONTINUOUS)
        self.run = job
        self.broadcaster.publish(EventKind.JOB_STARTED, {"job_id": job.job_id, "part_id": request.part_id})
        self.audit("", "start_continuous", job.model_dump(mode="json"))
        return job

    async def trigger(self, request: JobRequest) -> Job:
        """See StationApi."""
        return await self._accepting.trigger(request)

    async def frame(self, camera: str, spooled: Spooled, missed: int) -> Job:
        """Accept a part that a camera saw by itself, and note how many it missed before."""
        return await self._accepting.frame(camera, spooled, missed)

    async def judge(self, request: JobRequest) -> Result:
        """Run a job that is no part of the line, such as a challenge part, and return its result."""
        return await self._accepting.judge(request)

    async def stop(self, cause: int, description: str) -> None:
        """See StationApi."""
        self.machine.command(Command.STOP)
        self._end_execution("", is_abort=False)
        self.audit("", "stop", {"cause": cause, "description": description})

    async def abort(self, cause: int, description: str) -> None:
        """See StationApi."""
        self.machine.command(Command.ABORT)
        self._end_execution(f"aborted: {description}" if description else "aborted", is_abort=True)
        self.audit("", "abort", {"cause": cause, "description": description})

    # -- the rest ------------------------------------------------------------------------------------------------------
    def events(self) -> AsyncIterator[StationEvent]:
        """See StationApi."""
        return self.broadcaster.events()

    async def challenge(self, external_id: str) -> None:
        """See StationApi."""
        self.recipe_book.for_job(external_id)
        for gate in self.gates:
            if isinstance(gate, Challenger):
                await gate.challenge(external_id)

    async def live(self, camera: str) -> bytes:
        """See StationApi."""
        eye = self.crew.eye(self.crew.name_of(camera))
        return await eye.live() if eye else b""

    # -- helpers -------------------------------------------------------------------------------------------------------
    def _end_execution(self, reason: str, is_abort: bool) -> None:
        job_id = self.run.job_id if self.run else self.single
        self.run, self.single = None, ""
        if is_abort:
            self.flow.abort_all(reason)
        if self.machine.state is State.READY:
            self.broadcaster.publish(EventKind.READY, {"job_id": job_id})

    def _check_preparing(self) -> None:
        if self.machine.state not in (State.INITIALIZED, State.READY):
            self.machine.check(Command.PREPARE_RECIPE)
