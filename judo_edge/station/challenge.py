"""Challenge parts: known-bad and known-good parts that a recipe must judge right before the station says OK.

They are judged as simulated jobs by the inspector that judges the line, once after start, after each change of what can
change a verdict (the recipe's internal id), at each shift and on request. Until they pass, `allows_ok` says why not.
Knows neither inspector nor ledger: the hub brings both as a `Line`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Literal, Protocol

from judo_edge.core import Decision
from judo_edge.errors import OutputError, StationError, first_line
from judo_edge.station.challengerecords import ChallengeRun, records_from_file, write_records
from judo_edge.station.config import ChallengeTable
from judo_edge.station.masters import Master, differences, hashes_of_masters, masters_of_recipe
from judo_edge.station.results import CHALLENGE, Code, JobRequest, Recipe, Result, Severity
from judo_edge.station.shifts import last_shift

FILE_NAME = "challenge.json"
TICK_SECONDS, RETRY_SECONDS, LONGEST_RETRY = 0.25, 10.0, 80.0
"""Seconds between looks, and after a fault of the moment: each fault in a row doubles the pause up to the longest."""
_CLOCK_SLACK = timedelta(minutes=1)
"""An outcome from further in the future was written before the clock was set back, and counts for nothing."""
_JUDGED = frozenset({Code.INSPECTED, Code.PHOTO_UNREADABLE, Code.REPLY_INVALID})
"""Codes that say something of part and recipe; the others are faults of the moment, and the part is judged again."""

_log = logging.getLogger(__name__)
_Key = tuple[str, str]


class Line(Protocol):
    """What the challenge needs of the hub."""

    def prepared(self) -> Sequence[Recipe]:
        """Return the recipes that are prepared."""
        ...

    async def judge(self, request: JobRequest) -> Result:
        """Run a job and return its result; StationError when it is refused."""
        ...

    def tell(self, name: str, severity: Severity, text: str) -> None:
        """Raise or change a condition; an empty text clears it."""
        ...


class _NotJudgedError(Exception):
    """A part could not be judged now; says why."""


class Challenge:
    """The challenge parts of all recipes: a `Gate` of the hub, and what keeps it up to date."""

    def __init__(
        self,
        table: ChallengeTable,
        masters: Path,
        records: Path,
        line: Line,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        zone: tzinfo | None = None,
    ) -> None:
        """Name the folder of the challenge parts and the file of what is kept; `zone` None is the machine's."""
        self._table, self._masters, self._path, self._line = table, masters, records, line
        self._now, self._zone = now, zone
        self._records, damage = records_from_file(records)
        self._is_saved = True
        self._judged: set[_Key] = set()
        self._asked: set[str] = set()
        self._told: set[str] = set()
        self._retry_at: dict[_Key, float] = {}
        self._pause = RETRY_SECONDS
        self._wake = asyncio.Event()
        line.tell(CHALLENGE, Severity.WARNING, damage)

    # -- what the hub asks -------------------------------------------------------------------------------------------
    def allows_ok(self, recipe: Recipe) -> str:
        """Return an empty text when a part judged by this recipe may be OK, else the reason in words."""
        state = self._state(recipe)
        return "" if state in ("passed", "none") else f"the challenge parts of {recipe.external_id} are {_WORDS[state]}"

    def state(self, external_id: str) -> str:
        """Return `passed`, `pending`, `failed` or `none` of a prepared recipe; `pending` for one that is not."""
        recipe = self._prepared(external_id)
        return "pending" if recipe is None else self._state(recipe)

    async def challenge(self, external_id: str) -> None:
        """Judge the parts of a prepared recipe again, and accept the set as it is now; StationError for another."""
        if self._prepared(external_id) is None:
            raise StationError(f"recipe {external_id!r} is not prepared", "a prepared recipe", "prepare it first")
        self._asked.add(external_id)
        self._wake.set()

    async def run(self) -> None:
        """Judge whatever is due, until cancelled."""
        while True:
            self._wake.clear()
            await self.tick()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)

    async def tick(self) -> None:
        """Judge what is due now, one recipe after the other."""
        prepared = self._line.prepared()
        for external_id in self._told - {recipe.external_id for recipe in prepared}:
            self._tell(external_id, "")
        for recipe in prepared:
            self._tell_earlier(recipe)
            if self._is_due(recipe):
                await self._attempt(recipe)
        if not self._is_saved:
            await self._save()

    # -- states ------------------------------------------------------------------------------------------------------
    def _prepared(self, external_id: str) -> Recipe | None:
        return next((one for one in self._line.prepared() if one.external_id == external_id), None)

    def _state(self, recipe: Recipe) -> Literal["passed", "pending", "failed", "none"]:
        run = self._records.of(recipe.external_id).run_of(recipe.internal_id)
        if run is not None and run.state != "none":
            return run.state if self._is_current(run) else "pending"
        if run is not None and _key(recipe) in self._judged and self._is_current(run):
            return "pending" if self._table.is_required else "none"
        return "none" if self._has_none(recipe.external_id) else "pending"

    def _is_current(self, run: ChallengeRun) -> bool:
        """Tell whether an outcome is of this shift; without shifts every outcome is."""
        now = self._now()
        start = last_shift(now, self._table.shifts, self._zone)
        return run.at <= now + _CLOCK_SLACK and (start is None or run.at >= start)

    def _has_none(self, external_id: str) -> bool:
        """Tell at once, before the first look, that a recipe neither has nor had nor needs challenge parts."""
        known = self._records.of(external_id).masters
        return not (self._table.is_required or known or masters_of_recipe(self._masters, external_id))

    def _is_due(self, recipe: Recipe) -> bool:
        if recipe.external_id in self._asked:
            return True
        if asyncio.get_running_loop().time() < self._retry_at.get(_key(recipe), 0.0):
            return False
        run = self._records.of(recipe.external_id).run_of(recipe.internal_id)
        is_settled = run is not None and self._is_current(run) and _key(recipe) in self._judged
        return not is_settled or self._state(recipe) == "pending"

    # -- judging -----------------------------------------------------------------------------------------------------
    async def _attempt(self, recipe: Recipe) -> None:
        """Judge the parts of a recipe once; what goes wrong is told and tried again later."""
        is_asked = recipe.external_id in self._asked
        self._asked.discard(recipe.external_id)
        try:
            await self._judge_all(recipe, is_asked)
            self._judged.add(_key(recipe))
            self._retry_at.pop(_key(recipe), None)
            self._pause = RETRY_SECONDS
        except Exception as error:
            if not isinstance(error, (StationError, _NotJudgedError)):
                _log.exception("challenge of %s", recipe.external_id)
            loop = asyncio.get_running_loop()
            self._retry_at[_key(recipe)] = loop.time() + self._pause
            if is_asked:
                loop.call_later(self._pause, self._asked.add, recipe.external_id)
            self._pause = min(2 * self._pause, LONGEST_RETRY)
            text = f"the challenge parts could not be judged and are tried again: {first_line(error)}"
            self._tell(recipe.external_id, text, Severity.WARNING)

    async def _judge_all(self, recipe: Recipe, is_asked: bool) -> None:
        external_id = recipe.external_id
        masters = await asyncio.to_thread(masters_of_recipe, self._masters, external_id)
        hashes = await asyncio.to_thread(hashes_of_masters, masters)
        problems = [] if is_asked else list(differences(self._records.of(external_id).masters, hashes))
        if problems:
            problems.append("if that is right, ask for the challenge")
        elif masters:
            problems = await self._judge_each(recipe, masters)
        if self._table.is_required and not any(master.wanted is Decision.NOK for master in masters):
            problems.append(f"no part that must fail in {self._masters / external_id / 'fail'}, and one is required")
        state: Literal["passed", "failed", "none"] = "failed" if problems else "passed" if masters else "none"
        await self._keep(recipe, ChallengeRun(
            internal_id=recipe.internal_id, at=self._now(), state=state, text="; ".join(problems)
        ), hashes, is_asked)  # fmt: skip

    async def _judge_each(self, recipe: Recipe, masters: Sequence[Master]) -> list[str]:
        """Judge the parts one after the other and say which were judged wrong."""
        wrong = []
        for master in masters:
            result = await self._line.judge(_request(recipe, master))
            if result.internal_recipe_id != recipe.internal_id:
                raise _NotJudgedError(f"{recipe.external_id} changed meanwhile")
            if result.code not in _JUDGED:
                raise _NotJudgedError(f"{master.name}: {result.code.name}: {result.reason}")
            if result.code is not Code.INSPECTED or result.decision is not master.wanted:
                wrong.append(f"{master.name} is {result.decision.value} and must be {master.wanted.value}")
        return wrong

    async def _keep(self, recipe: Recipe, run: ChallengeRun, hashes: dict[str, str], is_asked: bool) -> None:
        """Remember an outcome and tell of it; a set that lost parts is accepted only when somebody asked."""
        record = self._records.of(recipe.external_id)
        accepted = hashes if is_asked or not differences(record.masters, hashes) else record.masters
        record = record.model_copy(update={"masters": accepted}).with_run(run)
        self._records = self._records.with_recipe(recipe.external_id, record)
        self._tell(recipe.external_id, run.text)
        await self._save()

    async def _save(self) -> None:
        """Write the outcomes down; when that fails they still count, and it is tried again at the next tick."""
        try:
            await asyncio.to_thread(write_records, self._path, self._records)
        except OutputError as error:
            if self._is_saved:
                _log.warning("%s", error)
            self._is_saved = False
        else:
            self._is_saved = True
            self._line.tell(CHALLENGE, Severity.WARNING, "")

    def _tell_earlier(self, recipe: Recipe) -> None:
        """Tell of a failure before the start until the parts were judged again."""
        run = self._records.of(recipe.external_id).run_of(recipe.internal_id)
        if run is not None and run.state == "failed" and recipe.external_id not in self._told:
            self._tell(recipe.external_id, run.text)

    def _tell(self, external_id: str, text: str, severity: Severity = Severity.ERROR) -> None:
        self._line.tell(f"{CHALLENGE}.{external_id}", severity, text)
        (self._told.add if text else self._told.discard)(external_id)


_WORDS = {"pending": "not judged yet", "failed": "judged wrong"}


def _key(recipe: Recipe) -> _Key:
    """Return what a version is known by here: two recipes that judge alike may have different challenge parts."""
    return recipe.external_id, recipe.internal_id


def _request(recipe: Recipe, master: Master) -> JobRequest:
    return JobRequest(
        recipe=recipe.external_id,
        part_id=master.name,
        origin=CHALLENGE,
        is_simulated=True,
        path=str(master.path.resolve()),
    )
