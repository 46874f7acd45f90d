"""A job between its acceptance and its verdict, and the list of those that are under way."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from judo_edge.station.hub.verdicts import Finding
from judo_edge.station.results import CHALLENGE, Job, Recipe, Result
from judo_edge.station.workers import Spooled


@dataclass(eq=False)
class OpenJob:
    """One accepted job. Whoever finds a verdict first claims it; what comes after is late."""

    job: Job
    recipe: Recipe | None
    began: float
    """When it was accepted, seconds of the monotonic clock."""
    spooled: Spooled | None = None
    finding: Finding | None = None
    """What was claimed as the verdict; None while the job is undecided."""
    decided_at: float = 0.0
    result: asyncio.Future[Result] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """The verdict, once it is on the disk."""
    is_acquired: bool = False
    is_running: bool = False
    """Whether it has begun to be looked at: a part that cannot be, such as an overrun, never does."""
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    timer: asyncio.TimerHandle | None = None

    @property
    def is_part(self) -> bool:
        """Tell whether this is about a part of the line, not a challenge part."""
        return self.job.request.origin != CHALLENGE

    @property
    def job_id(self) -> str:
        """Return the job's id."""
        return self.job.job_id

    def claim(self, finding: Finding, now: float) -> bool:
        """Take a finding as the verdict; False when there is one already."""
        if self.finding is not None:
            return False
        self.finding, self.decided_at = finding, now
        self.decided.set()
        if self.timer:
            self.timer.cancel()
        return True


class OpenJobs:
    """The jobs whose verdict is not on the disk yet, or whose photo is still being looked at, in order."""

    def __init__(self) -> None:
        """Begin with none."""
        self._jobs: dict[str, OpenJob] = {}

    def add(self, one: OpenJob) -> None:
        """Take a job in."""
        self._jobs[one.job_id] = one

    def remove(self, one: OpenJob) -> None:
        """Let a job go."""
        self._jobs.pop(one.job_id, None)

    def all(self) -> tuple[OpenJob, ...]:
        """Return all."""
        return tuple(self._jobs.values())

    def has(self, job_id: str) -> bool:
        """Tell whether a job is under way."""
        return job_id in self._jobs

    def undecided(self) -> tuple[OpenJob, ...]:
        """Return those of the line that have no verdict."""
        return tuple(one for one in self._jobs.values() if one.finding is None and one.is_part)

    @property
    def running(self) -> str:
        """Return the id of the oldest job without a verdict, empty when there is none."""
        return next((one.job_id for one in self._jobs.values() if one.finding is None), "")
