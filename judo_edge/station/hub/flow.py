"""How an accepted job becomes exactly one verdict: photo, inspection, deadline; written first, told afterwards.

A job's verdict is claimed once in memory and constrained once more by the ledger. Knows no states of the station.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from judo_edge.core import Decision
from judo_edge.errors import JudoEdgeError, first_line
from judo_edge.station.hub.crew import Crew
from judo_edge.station.hub.jobs import OpenJob, OpenJobs
from judo_edge.station.hub.looking import FaultError, Looking
from judo_edge.station.hub.verdicts import Finding, Moments, finding_from_outcome, result_from_finding
from judo_edge.station.ledger import writing
from judo_edge.station.ledger.ledger import Ledger, LedgerError
from judo_edge.station.results import Code, LateResult, Recipe, Result, utc_now
from judo_edge.station.workers import Kept, Outcome

RETRY_SECONDS = 0.5
"""Between attempts to write a verdict that the disk did not take."""
DRAIN_SECONDS, CLOSE_SECONDS = 5.0, 3.0
"""At the end: how long a disk may refuse the last verdicts, and how long photos may take to be kept."""
KEEP_SECONDS = 30.0
"""How long the inspector may take to write photo and mask."""

_log = logging.getLogger(__name__)
R = TypeVar("R")
T = TypeVar("T")


class Owner(Protocol):
    """The station as the flow sees it."""

    def held_back(self, recipe: Recipe | None) -> str:
        """Return why the station may not say OK, empty if it may."""
        ...

    def acquired(self, one: OpenJob) -> None:
        """Hear that the part may leave the field of view."""
        ...

    def progressed(self, one: OpenJob, record: dict[str, Any]) -> None:
        """Hear what is provisionally known of a part."""
        ...

    def verdict(self, one: OpenJob, result: Result) -> None:
        """Hear of a verdict that is on the disk."""
        ...

    def late(self, late: LateResult) -> None:
        """Hear what came after the verdict; it is on the disk."""
        ...

    def kept(self, result_id: str, kept: Kept) -> None:
        """Hear which files the archive holds."""
        ...

    def durable(self, problem: str) -> None:
        """Hear that a verdict cannot be written (why), or that it could be again (empty)."""
        ...

    @property
    def num_without_photo(self) -> int:
        """Return how many triggers were refused or missed so far."""
        ...


class Flow:
    """Runs the jobs; every one of them ends in `Owner.verdict` exactly once."""

    def __init__(
        self,
        owner: Owner,
        ledger: Ledger,
        crew: Crew,
        looking: Looking,
        on_fault: Decision,
        spool: Path,
        clock: Callable[[], float],
    ) -> None:
        """Take what is worked with; `spool` is the folder of photos under way."""
        self._owner, self._ledger, self._crew, self._looking = owner, ledger, crew, looking
        self._on_fault, self._spool, self._clock = on_fault, spool, clock
        self.jobs = OpenJobs()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.is_closing = False

    # -- beginning and ending ------------------------------------------------------------------------------------------
    def begin(self, one: OpenJob) -> None:
        """Start a job that is in the ledger; its deadline counts from `one.began`."""
        self.jobs.add(one)
        one.is_running = True
        left = max(0.0, one.began + one.job.deadline - self._clock())
        one.timer = asyncio.get_running_loop().call_later(left, self._deadline, one)
        self.spawn(self._run(one))

    def decide(self, one: OpenJob, finding: Finding) -> bool:
        """Give a job its verdict; False when it has one."""
        if not one.claim(finding, self._clock()):
            return False
        self.jobs.add(one)
        self.spawn(self._deliver(one, finding))
        return True

    def abort_all(self, reason: str) -> None:
        """Give every job of the line without a verdict ABORTED."""
        for one in self.jobs.undecided():
            self.decide(one, Finding(Code.ABORTED, reason))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside; it is held until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def drain(self) -> None:
        """Wait until every job has its verdict on the disk; a disk that takes none ends the wait after a while."""
        self.is_closing = True
        for one in self.jobs.all():
            if not one.is_part:
                self.decide(one, Finding(Code.ABORTED, "the station was stopped"))
        while waiting := [one.result for one in self.jobs.all() if not one.result.done()]:
            longest = max(one.job.deadline for one in self.jobs.all())
            done, _ = await asyncio.wait(waiting, timeout=longest + DRAIN_SECONDS)
            if not done:
                _log.error("%d jobs have no verdict on the disk: the next start gives them one", len(waiting))
                return

    async def close(self) -> None:
        """Let what is being kept be kept, then end what still runs, such as inspections whose verdict fell already."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error and not isinstance(error, JudoEdgeError):  # a refusal is its caller's to hear
            _log.error("internal fault", exc_info=error)

    def _deadline(self, one: OpenJob) -> None:
        if self.is_closing:
            self.decide(one, Finding(Code.ABORTED, "the station was stopped"))
        else:
            self.decide(one, Finding(Code.DEADLINE, f"no verdict within {one.job.deadline:g} s"))

    # -- one job -------------------------------------------------------------------------------------------------------
    async def _run(self, one: OpenJob) -> None:
        try:
            outcome = await self._looked(one)
            await self._answered(one, outcome)
        except FaultError as fault:
            self.decide(one, Finding(fault.code, fault.reason))
        except Exception as error:
            _log.error("internal fault in job %s", one.job_id, exc_info=error)
            self.decide(one, Finding(Code.INTERNAL, f"internal fault: {type(error).__name__}: {first_line(error)}"))
        finally:
            self._acquired(one)
        try:
            await self._keep(one, await asyncio.shield(one.result))
        finally:
            self.jobs.remove(one)

    async def _looked(self, one: OpenJob) -> Outcome:
        one.spooled = await self._looking.photo(one)
        self._acquired(one)
        return await self._looking.outcome(one, one.spooled, lambda record: self._owner.progressed(one, record))

    async def _answered(self, one: OpenJob, outcome: Outcome) -> None:
        """Take the inspector's answer as the verdict, or as late when there is one already."""
        held_back = self._owner.held_back(one.recipe) if one.is_part else ""
        if not self.decide(one, finding_from_outcome(outcome, held_back)):
            await asyncio.shield(one.result)
            await self._late(one, outcome)

    async def _late(self, one: OpenJob, outcome: Outcome | Result) -> None:
        late = LateResult(
            job_id=one.job_id,
            arrived=utc_now(),
            seconds_late=max(0.0, self._clock() - one.decided_at),
            **outcome.model_dump(include={"decision", "reason", "score"}),
        )
        await self._persisted(writing.add_late, late)
        self._owner.late(late)

    async def _deliver(self, one: OpenJob, finding: Finding) -> None:
        """Write the verdict, as often as it takes, then tell it."""
        draft = self._draft(one, finding)
        result: Result | None = await self._persisted(writing.add_result, draft)
        try:
            if result is not None:
                self._owner.verdict(one, result)
            else:
                await self._late(one, draft)
        finally:
            one.result.set_result(result or draft)
            if not one.is_running:
                self.jobs.remove(one)
                await self.remove_spooled(one.spooled.file if one.spooled else "")

    def _draft(self, one: OpenJob, finding: Finding) -> Result:
        """Return the result without its number; what cannot be written down becomes INTERNAL."""
        moments = Moments(one.spooled.captured if one.spooled else "", one.decided_at - one.began)
        rest = (self._on_fault, moments, self._owner.num_without_photo)
        try:
            return result_from_finding(one.job, one.recipe, finding, *rest)
        except ValueError as error:
            _log.error("internal fault in job %s", one.job_id, exc_info=error)
            finding = Finding(Code.INTERNAL, f"the outcome cannot be written down: {first_line(error)}")
            return result_from_finding(one.job, one.recipe, finding, *rest)

    async def _persisted(self, work: Callable[[sqlite3.Connection, R], T], record: R) -> T:
        """Write something, as often as it takes."""
        while True:
            with contextlib.suppress(LedgerError):
                return await self._tried(work, record)
            await asyncio.sleep(RETRY_SECONDS)

    async def _tried(self, work: Callable[[sqlite3.Connection, R], T], record: R) -> T:
        try:
            outcome = await self._ledger.write(work, record)
        except LedgerError as error:
            self._owner.durable(first_line(error))
            raise
        self._owner.durable("")
        return outcome

    def _acquired(self, one: OpenJob) -> None:
        if not one.is_acquired:
            one.is_acquired = True
            self._owner.acquired(one)

    async def _keep(self, one: OpenJob, result: Result) -> None:
        """Have photo and mask archived, then remove the photo under way."""
        judge = self._crew.judge
        try:
            if judge is not None and one.spooled is not None and one.is_part:
                kept = await asyncio.wait_for(judge.keep(one.job_id, result.result_id, result.decision), KEEP_SECONDS)
                if kept.photo or kept.mask_file:
                    await self._ledger.write(writing.add_evidence, result.result_id, kept)
                    self._owner.kept(result.result_id, kept)
        except (JudoEdgeError, TimeoutError, asyncio.TimeoutError) as error:
            _log.warning("result %s is kept without its photo: %s", result.result_id, first_line(error))
        finally:
            await self.remove_spooled(one.spooled.file if one.spooled else "")

    async def remove_spooled(self, name: str) -> None:
        """Remove a photo from the spool folder."""
        if name and Path(name).name == name:
            with contextlib.suppress(OSError):
                await asyncio.to_thread((self._spool / name).unlink, missing_ok=True)
