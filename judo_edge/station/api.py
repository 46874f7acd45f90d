"""What can be done with a station. The hub implements it, `client` speaks it to the hub, façades know nothing else.

A refusal is a `StationError`: what was found, what was wanted, what to do, and a number for PLCs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from judo_edge.station.results import (
    Job,
    JobRequest,
    Recipe,
    ReferenceInfo,
    Result,
    ResultQuery,
    StationEvent,
    Status,
)


class StationApi(Protocol):
    """A station, near or far."""

    async def status(self) -> Status:
        """Return state, counters, processes and conditions."""
        ...

    # -- states ------------------------------------------------------------------------------------------------------
    async def halt(self, cause: int, description: str) -> None:
        """Stop everything that moves; waiting jobs end as ABORTED. StationError where the state forbids it."""
        ...

    async def reset(self, cause: int, description: str) -> None:
        """Go to Preoperational; waiting jobs end as ABORTED, recipes are unprepared."""
        ...

    async def select_automatic(self) -> None:
        """Go from Preoperational to Initialized."""
        ...

    async def confirm_all(self, comment: str, user: str = "") -> None:
        """Acknowledge all conditions; those whose cause is over disappear."""
        ...

    async def simulate(self, is_on: bool) -> None:
        """Mark results as simulated; the rest stays as it is."""
        ...

    # -- recipes -----------------------------------------------------------------------------------------------------
    async def recipes(self) -> tuple[Recipe, ...]:
        """Return every version of every recipe that is known, newest first."""
        ...

    async def prepare(self, external_id: str, internal_id: str = "") -> Recipe:
        """Make a recipe ready, or an earlier version of it by its internal id (a rollback); returns when it is."""
        ...

    async def unprepare(self, external_id: str) -> Recipe:
        """Put a recipe away; without any left the station goes from Ready to Initialized."""
        ...

    # -- jobs --------------------------------------------------------------------------------------------------------
    async def start_single(self, request: JobRequest) -> Job:
        """Accept one job; when this returns it is in the ledger, and exactly one result will follow."""
        ...

    async def start_continuous(self, request: JobRequest) -> Job:
        """Let triggers start jobs by themselves until stopped; the job that is returned stands for the run."""
        ...

    async def trigger(self, request: JobRequest) -> Job:
        """Accept one part from a PLC's tag, HTTP or a camera, in Ready or ContinuousExecution.

        In any other state: StationError, counted as refused, except for a part that a camera saw (`origin` "camera"),
        which gets NOT_DECIDABLE with code NOT_READY, because it has passed.
        """
        ...

    async def stop(self, cause: int, description: str) -> None:
        """End the execution; jobs that were accepted still get their verdicts."""
        ...

    async def abort(self, cause: int, description: str) -> None:
        """End the execution; jobs without a verdict end as ABORTED at once."""
        ...

    # -- results -----------------------------------------------------------------------------------------------------
    async def results(self, query: ResultQuery) -> tuple[Result, ...]:
        """Return stored results by number, ascending unless the query says otherwise."""
        ...

    async def result(self, result_id: str) -> Result | None:
        """Return one result, None when there is none of that id."""
        ...

    async def acknowledge(self, sink: str, result_ids: Sequence[str]) -> tuple[bool, ...]:
        """Note that a sink has taken results; False for each id that is not known."""
        ...

    async def unacknowledged(self, sink: str, limit: int = 100) -> tuple[Result, ...]:
        """Return the oldest results that a sink has not acknowledged."""
        ...

    async def archive_file(self, result_id: str, kind: str) -> Path | None:
        """Return the path of a result's `photo`, `mask` or `reference`; None when none is kept."""
        ...

    def events(self) -> AsyncIterator[StationEvent]:
        """Yield events from now on; a slow reader loses the oldest and sees the gap in their numbers."""
        ...

    # -- people ------------------------------------------------------------------------------------------------------
    async def review(self, result_id: str, decision: str, user: str, note: str = "") -> Result:
        """Note a person's verdict ("OK", "NOK", or "" to take it back); the station's own stays beside it."""
        ...

    async def references(self, part: str) -> tuple[ReferenceInfo, ...]:
        """Return the references of a part, retired ones too."""
        ...

    async def enroll(self, part: str, photo: Path, source: str, user: str) -> ReferenceInfo:
        """Enrol the photo in a file as a good part; a prepared recipe of the part is prepared again."""
        ...

    async def retire(self, part: str, reference_id: str, user: str) -> ReferenceInfo:
        """Take a reference out of use; a prepared recipe of the part is prepared again."""
        ...

    async def reference_file(self, part: str, reference_id: str) -> Path | None:
        """Return the path of a reference's photo."""
        ...

    def ask(self, result_id: str, question: str) -> AsyncIterator[str]:
        """Ask the model a question about a stored part; yields its answer in pieces, as it becomes known."""
        ...

    async def challenge(self, external_id: str) -> None:
        """Have the challenge parts of a prepared recipe judged now; the status tells how it went."""
        ...

    async def live(self, camera: str) -> bytes:
        """Return the camera's newest photo as JPEG; empty when there is none."""
        ...
