"""The station: `StationApi` over state machine, ledger, workers and the flow of jobs.

Everything runs in one event loop that never waits for a disk, a camera or a model.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from judo_edge.core import Decision
from judo_edge.errors import InputError, StationError
from judo_edge.station.config import StationConfig
from judo_edge.station.hub.accepting import Accepting
from judo_edge.station.hub.base import StationBase
from judo_edge.station.hub.hooks import Challenger, Gate, Watcher
from judo_edge.station.hub.steward import Steward
from judo_edge.station.ledger import reading, writing
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.results import (
    EventKind,
    Job,
    JobRequest,
    Recipe,
    ReferenceInfo,
    Result,
    ResultQuery,
    StationEvent,
    Status,
    utc_now,
)
from judo_edge.station.states import Command, State
from judo_edge.station.workers import Spooled

NO_RESULT, NO_PHOTO = -14, -15
"""Numbers of the StationErrors for a result that is not known, or whose photo is not kept."""
ARCHIVE = "archive"


class Station(StationBase):
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
        recipe = await self.prepare_now(external_id, internal_id)
        await self.recipe_book.choose(external_id, internal_id)
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

    # -- results -------------------------------------------------------------------------------------------------------
    async def results(self, query: ResultQuery) -> tuple[Result, ...]:
        """See StationApi."""
        return await self.ledger.read(reading.results, query)

    async def result(self, result_id: str) -> Result | None:
        """See StationApi."""
        return await self.ledger.read(reading.result, result_id)

    async def acknowledge(self, sink: str, result_ids: Sequence[str]) -> tuple[bool, ...]:
        """See StationApi."""
        return await self.ledger.write(writing.acknowledge, sink, tuple(result_ids))

    async def unacknowledged(self, sink: str, limit: int = 100) -> tuple[Result, ...]:
        """See StationApi."""
        return await self.ledger.read(reading.unacknowledged, sink, max(1, min(limit, 1000)))

    async def archive_file(self, result_id: str, kind: str) -> Path | None:
        """See StationApi."""
        if kind not in ("photo", "mask", "reference"):
            raise InputError(f"kind {kind!r}", "one of photo, mask, reference")
        found = await self.result(result_id)
        if found is None:
            return None
        if kind == "reference":
            return await self.reference_file(found.part, found.reference_id) if found.reference_id else None
        name = found.photo if kind == "photo" else found.mask_file
        return self.config.data / ARCHIVE / name if name else None

    def events(self) -> AsyncIterator[StationEvent]:
        """See StationApi."""
        return self.broadcaster.events()

    # -- people --------------------------------------------------------------------------------------------------------
    async def review(self, result_id: str, decision: str, user: str, note: str = "") -> Result:
        """See StationApi."""
        if decision not in ("", Decision.OK.value, Decision.NOK.value):
            raise InputError(f"decision {decision!r}", "OK, NOK or nothing")
        if not await self.ledger.write(writing.add_review, result_id, decision, user, note):
            raise _no_result(result_id)
        data = {"result_id": result_id, "decision": decision, "user": user, "note": note}
        self.broadcaster.publish(EventKind.REVIEW, data)
        self.audit(user, "review", data)
        return await self._stored(result_id)

    async def references(self, part: str) -> tuple[ReferenceInfo, ...]:
        """See StationApi."""
        return await self.crew.needed_judge().references(part)

    async def enroll(self, part: str, photo: Path, source: str, user: str) -> ReferenceInfo:
        """See StationApi."""
        found = await self.crew.needed_judge().enroll(part, str(photo), source, user)
        await self._references_changed(found, "enrolled", user)
        return found

    async def retire(self, part: str, reference_id: str, user: str) -> ReferenceInfo:
        """See StationApi."""
        found = await self.crew.needed_judge().retire(part, reference_id, user)
        await self._references_changed(found, "retired", user)
        return found

    async def reference_file(self, part: str, reference_id: str) -> Path | None:
        """See StationApi."""
        return await self.crew.needed_judge().reference_file(part, reference_id)

    async def ask(self, result_id: str, question: str) -> AsyncIterator[str]:
        """See StationApi."""
        found = await self._stored(result_id)
        if not found.photo:
            raise StationError(f"no photo of result {result_id} is kept", "a kept photo", "", NO_PHOTO)
        photo = self.config.data / ARCHIVE / found.photo
        with self.crew.judge_is_busy():
            async for piece in self.crew.needed_judge().ask(str(photo), found.internal_recipe_id, question):
                yield piece

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

    async def _stored(self, result_id: str) -> Result:
        found = await self.result(result_id)
        if found is None:
            raise _no_result(result_id)
        return found

    async def _references_changed(self, info: ReferenceInfo, change: str, user: str) -> None:
        data: dict[str, Any] = {
            "part": info.part, "reference_id": info.reference_id, "change": change, "user": user
        }  # fmt: skip
        self.audit(user, change, data)
        self.broadcaster.publish(EventKind.REFERENCES, data)
        for recipe in self.recipe_book.prepared():
            if recipe.part == info.part:
                fresh = await self.prepare_now(recipe.external_id, "")
                await self.recipe_book.choose(recipe.external_id, "")
                self.broadcaster.publish(EventKind.RECIPE_PREPARED, fresh.model_dump(mode="json"))


def _no_result(result_id: str) -> StationError:
    return StationError(f"result {result_id!r} is not known", "the id of a stored result", "", NO_RESULT)
