"""How triggers become jobs: refused or written down, never half; a key is one job, and never another part's.

A trigger is answered when its job is on the disk. A caller that hangs up in the meantime changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from judo_edge.errors import InputError, StationError, first_line
from judo_edge.station.hub.jobs import OpenJob
from judo_edge.station.hub.verdicts import Finding
from judo_edge.station.ledger import reading, writing
from judo_edge.station.ledger.ledger import LedgerError
from judo_edge.station.machine import refusal
from judo_edge.station.results import CHALLENGE, Code, EventKind, Job, JobRequest, Recipe, Result, utc_now
from judo_edge.station.states import Command, State
from judo_edge.station.workers import Spooled

if TYPE_CHECKING:
    from judo_edge.station.hub.base import StationBase

CLOSING, KEY_USED, TOO_LONG = -40, -47, -48
"""Numbers of the StationErrors: the station is being stopped; the key is another part's; a text is too long."""
MAX_TEXT = 300
"""Characters of each text of a trigger; a camera's come from names of files."""
MAX_MISSED = 100
"""Missed frames that get a verdict each; what a counter skips beyond that is only counted."""
INTERNAL_SECONDS = 60.0
"""Least deadline of a job that is no part of the line."""
_TRIGGERED = (State.READY, State.CONTINUOUS_EXECUTION)
_RESTING = (State.HALTED, State.PREOPERATIONAL)


class _KnownError(Exception):
    """The key of a trigger is known: its job is there already."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.job_id)
        self.job = job


class Accepting:
    """Takes triggers in."""

    def __init__(self, station: StationBase) -> None:
        """Take the station whose triggers these are."""
        self._station = station
        self._by_key: dict[str, asyncio.Task[Job]] = {}

    # -- who may trigger -----------------------------------------------------------------------------------------------
    async def start_single(self, request: JobRequest) -> Job:
        """Accept one job from Ready; the station is in SingleExecution until the photo is taken."""
        return await self._once(request, lambda: self._single(request))

    async def trigger(self, request: JobRequest) -> Job:
        """Accept one part in Ready or ContinuousExecution; a part that a camera saw in any state."""
        if request.origin == "camera":
            return await self._once(request, lambda: self._seen(request, None))
        return await self._once(request, lambda: self._triggered(request))

    async def frame(self, camera: str, spooled: Spooled, missed: int) -> Job:
        """Accept a part that a camera saw by itself; offered again it is the same job."""
        key = f"frame:{camera}:{spooled.file or f'{spooled.path}:{spooled.captured_ns}'}"
        number = spooled.frame_number
        request = JobRequest(camera=camera, part_id=spooled.part_id, key=key, origin="camera", frame_number=number)
        job = await self._once(request, lambda: self._seen(request, spooled, missed))
        if not self._station.flow.jobs.has(job.job_id):
            await self._station.flow.remove_spooled(spooled.file)
        return job

    async def judge(self, request: JobRequest) -> Result:
        """Run a job that is no part of the line and return its result; InputError when it names no photo."""
        if not request.path:
            raise InputError("a job that is no part of the line, without a photo", "the path of a photo")
        self._check_open()
        self._station.crew.needed_judge()
        recipe = self._station.recipe_book.for_job(request.recipe)
        one = await asyncio.shield(self._station.flow.spawn(self._internal(request, recipe)))
        return await asyncio.shield(one.result)

    # -- accepting -----------------------------------------------------------------------------------------------------
    async def _once(self, request: JobRequest, accept: Callable[[], Awaitable[Job]]) -> Job:
        """Accept a trigger unless its key is known, whether or not the caller waits for the answer."""
        if request.origin == CHALLENGE:  # it would pass by the gates
            raise InputError(f"a trigger of origin {CHALLENGE!r}", "another origin", "ask for the challenge")
        if not request.key:
            return await asyncio.shield(self._station.flow.spawn(self._counted(request, accept)))
        task = self._by_key.get(request.key)
        if task is None:
            task = self._by_key[request.key] = self._station.flow.spawn(self._counted(request, accept))
            task.add_done_callback(lambda _: self._by_key.pop(request.key, None))
        job = await asyncio.shield(task)
        if differing := _differing(request, job.request):
            found = f"key {request.key!r} was used for a part with another {differing}"
            self._station.count("refused", 1, request.origin, found)
            raise StationError(found, "a new key for every part", "make keys unique, also over restarts", KEY_USED)
        return job

    async def _counted(self, request: JobRequest, accept: Callable[[], Awaitable[Job]]) -> Job:
        """Accept a trigger; what is refused is counted, unless its caller will offer it again."""
        if request.key and (known := await self._station.ledger.read(reading.job_of_key, request.key)):
            return known
        try:
            self._check_open()
            _check_lengths(request)
            return await accept()
        except _KnownError as known_already:
            return known_already.job
        except StationError as error:
            if request.origin != "camera":
                self._station.count("refused", 1, request.origin, first_line(error))
            raise

    async def _single(self, request: JobRequest) -> Job:
        station = self._station
        station.machine.check(Command.START_SINGLE_JOB)
        recipe, request = self._completed(request)
        station.machine.command(Command.START_SINGLE_JOB)
        station.single = reserved = uuid.uuid4().hex
        try:
            one = await self._write(request, recipe, station.config.station.deadline, reserved)
        except BaseException:
            if station.single == reserved and station.machine.state is State.SINGLE_EXECUTION:
                station.single = ""
                station.machine.automatic(State.READY)
            raise
        return self._begun(one)

    async def _triggered(self, request: JobRequest) -> Job:
        state = self._station.machine.state
        if state not in _TRIGGERED:
            raise refusal("a trigger", state, self._station.machine.allowed())
        recipe, request = self._completed(request)
        return self._begun(await self._write(request, recipe, self._station.config.station.deadline))

    async def _seen(self, request: JobRequest, spooled: Spooled | None, missed: int = 0) -> Job:
        """Accept a part that has passed: where the station is not ready it gets a verdict all the same."""
        station = self._station
        request = request.model_copy(update={"camera": station.crew.name_of(request.camera)})
        if missed > 0:
            await self._missed(request, missed)
        recipe, request, reason = self._completed_or_not(request)
        one = await self._write(request, recipe, station.config.station.deadline)
        if spooled is not None:
            one.spooled, one.began = spooled, _moment_of(spooled, one.began)
        return self._begun(one, Finding(Code.NOT_READY, reason) if reason else None)

    async def _missed(self, request: JobRequest, missed: int) -> None:
        """Count parts of which no photo came, and give each its verdict."""
        station = self._station
        station.count("missed", missed, "camera", f"camera {request.camera} missed {missed}")
        recipe, request, reason = self._completed_or_not(request)
        finding = Finding(Code.FRAME_MISSED, reason or f"camera {request.camera} took no photo of a part")
        for number in range(min(missed, MAX_MISSED)):
            update = {"key": f"{request.key}:missed-{number + 1}", "part_id": "", "frame_number": None}
            with contextlib.suppress(_KnownError):
                one = await self._write(request.model_copy(update=update), recipe, station.config.station.deadline)
                self._begun(one, finding)

    async def _internal(self, request: JobRequest, recipe: Recipe) -> OpenJob:
        """Write down and start a job that is no part of the line."""
        request = request.model_copy(update={"origin": CHALLENGE, "is_simulated": True, "key": ""})
        one = await self._write(request, recipe, max(INTERNAL_SECONDS, 10 * self._station.config.station.deadline))
        self._station.flow.begin(one)
        return one

    # -- helpers -------------------------------------------------------------------------------------------------------
    def _completed(self, request: JobRequest) -> tuple[Recipe, JobRequest]:
        """Fill in what a trigger leaves open: from the run that StartContinuous began, then from the station."""
        station = self._station
        run = station.run.request if station.run else JobRequest()
        names = ("recipe", "meas_id", "product_id", "camera")
        found = {name: getattr(request, name) or getattr(run, name) for name in names}
        recipe = station.recipe_book.for_job(found["recipe"])
        found["recipe"] = recipe.external_id
        found["product_id"] = found["product_id"] or station.recipe_book.tables[recipe.external_id].product
        if not request.path:
            found["camera"] = station.crew.name_of(found["camera"])
        simulated = request.is_simulated or run.is_simulated or station.is_simulating
        return recipe, request.model_copy(update={**found, "is_simulated": simulated})

    def _completed_or_not(self, request: JobRequest) -> tuple[Recipe | None, JobRequest, str]:
        """Fill in what is known of a part that has passed, and say why it cannot be judged, if so."""
        state = self._station.machine.state
        try:
            if state not in _TRIGGERED:
                raise StationError(f"the station was in state {state.value}")
            return *self._completed(request), ""
        except StationError as error:
            simulated = self._station.is_simulating
            return None, request.model_copy(update={"is_simulated": simulated}), first_line(error)

    async def _write(self, request: JobRequest, recipe: Recipe | None, deadline: float, job_id: str = "") -> OpenJob:
        """Make the job durable; its time begins now. _KnownError when its key is known after all."""
        began = self._station.clock()
        job = Job(
            job_id=job_id or uuid.uuid4().hex,
            request=request,
            recipe_id=recipe.internal_id if recipe else "",
            created=utc_now(),
            deadline=deadline,
        )
        try:
            stored = await self._station.ledger.write(writing.add_job, job, self._station.ledger.boot)
        except LedgerError as error:
            self._station.durable(first_line(error))
            raise
        if stored.job_id != job.job_id:
            raise _KnownError(stored)
        return OpenJob(job, recipe, began)

    def _begun(self, one: OpenJob, finding: Finding | None = None) -> Job:
        """Let a durable job run, or give it the verdict that is known already."""
        station, limit = self._station, self._station.config.station.max_waiting
        station.tally.count("triggers")
        data = {"job_id": one.job_id, "part_id": one.job.request.part_id}
        station.broadcaster.publish(EventKind.JOB_STARTED, data)
        if finding is None and station.machine.state in _RESTING:
            finding = Finding(Code.ABORTED, f"the station went to {station.machine.state.value}")
        if finding is None and len(station.flow.jobs.undecided()) >= limit:
            finding = Finding(Code.OVERRUN, f"{limit} parts waited already")
        if finding is None:
            station.flow.begin(one)
        else:
            station.flow.decide(one, finding)
        return one.job

    def _check_open(self) -> None:
        if self._station.flow.is_closing:
            raise StationError("the station is being stopped", "a running station", "wait until it is back", CLOSING)


def _differing(request: JobRequest, known: JobRequest) -> str:
    """Return what of a trigger shows that its key was used for another part; empty where it is the same one again."""
    if (request.origin == "camera") != (known.origin == "camera"):
        return "origin"
    names = ("part_id", "meas_id", "product_id", "recipe", "camera") if request.origin != "camera" else ()
    return next((name for name in names if getattr(request, name) not in ("", getattr(known, name))), "")


def _check_lengths(request: JobRequest) -> None:
    names = ("part_id", "meas_id", "product_id", "recipe", "camera", "key")
    longest = max(names, key=lambda name: len(getattr(request, name)))
    if request.origin != "camera" and (length := len(getattr(request, longest))) > MAX_TEXT:
        raise StationError(f"a {longest} of {length} characters", f"at most {MAX_TEXT}", "shorten it", TOO_LONG)


def _moment_of(spooled: Spooled, now: float) -> float:
    """Return when a part that a camera saw by itself was there, seconds of the monotonic clock: its time began then."""
    return min(now, spooled.captured_ns / 1e9) if spooled.captured_ns > 0 else now
