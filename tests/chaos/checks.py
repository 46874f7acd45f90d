"""What must hold after a run, whatever went wrong: one durable verdict per trigger, none OK that was not seen good."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from judo_edge.core import Decision
from judo_edge.station.results import Code, Result
from tests.chaos.line import Journal, problems_of_journal


@dataclass
class Run:
    """What a run did and found."""

    jobs: dict[str, str] = field(default_factory=dict)
    """Job id by trigger key."""
    during: dict[str, str] = field(default_factory=dict)
    """Fault under way when a part was triggered, by key or part id; empty for none."""
    journal: Journal = field(default_factory=Journal)
    """Of the PLC."""
    unacknowledged: int = 0
    """Results that the station says no OPC UA client has taken, after the end."""
    photos: dict[str, str] = field(default_factory=dict)
    """What was put into the folder, by part id: good, bad or broken."""
    results: list[Result] = field(default_factory=list)
    truth: list[Mapping[str, Any]] = field(default_factory=list)
    data: Path = Path()


def problems_of(run: Run) -> list[str]:
    """Return everything that does not hold; empty for a good run."""
    found = [*_one_verdict_each(run), *_numbers(run), *_true_verdicts(run), *_photos(run), *_on_disk(run)]
    return [*found, *_plc(run)]


def _one_verdict_each(run: Run) -> Iterable[str]:
    counts = Counter(result.job_id for result in run.results)
    for job_id, count in counts.items():
        if count > 1:
            yield f"job {job_id} has {count} verdicts"
    for key, job_id in run.jobs.items():
        if job_id not in counts:
            yield f"trigger {key}, job {job_id}, has no verdict"
    known = set(run.jobs.values())
    for result in run.results:
        if result.origin not in ("camera", "tags") and result.job_id not in known:
            yield f"result {result.number} belongs to no trigger"
    if len(known) != len(run.jobs):
        yield "two triggers share a job"


def _numbers(run: Run) -> Iterable[str]:
    numbers = [result.number for result in run.results]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"numbers are not 1..{len(numbers)} in order"


def _true_verdicts(run: Run) -> Iterable[str]:
    kinds: dict[str, set[str]] = {}
    for one in run.truth:
        kinds.setdefault(one["job_id"], set()).add(one["kind"])
    for result in run.results:
        seen = kinds.get(result.job_id, set())
        if result.origin == "camera":
            continue
        if result.decision is Decision.OK and seen != {"good"}:
            yield f"result {result.number} is OK, and there was {sorted(seen) or 'no photo'}"
        if result.decision is Decision.NOK and seen != {"bad"}:
            yield f"result {result.number} is NOK, and there was {sorted(seen) or 'no photo'}"
        if (result.code is Code.INSPECTED) != (result.decision is not Decision.NOT_DECIDABLE):
            yield f"result {result.number} is {result.decision.value} with code {result.code.name}"


def _photos(run: Run) -> Iterable[str]:
    allowed = {"good": Decision.OK, "bad": Decision.NOK, "broken": None}
    by_part: dict[str, list[Result]] = {}
    for result in run.results:
        if result.origin == "camera":
            by_part.setdefault(result.part_id, []).append(result)
    for part_id, kind in run.photos.items():
        found = by_part.pop(part_id, [])
        if len(found) != 1:
            yield f"photo {part_id} has {len(found)} verdicts"
        for result in found:
            if result.decision not in (allowed[kind], Decision.NOT_DECIDABLE):
                yield f"photo {part_id} is {kind}, its verdict {result.decision.value}"
    for part_id, found in by_part.items():
        if any(result.code is not Code.FRAME_MISSED for result in found):
            yield f"verdict on {part_id!r}, which was never put there"


def _plc(run: Run) -> Iterable[str]:
    yield from problems_of_journal(run.journal, run.results)
    if run.unacknowledged:
        yield f"{run.unacknowledged} results are not acknowledged by OPC UA"


def _on_disk(run: Run) -> Iterable[str]:
    """Look into the ledger's file itself, without the station."""
    for path in run.data.glob("*.sqlite*"):
        if path.suffix not in (".sqlite", ".sqlite3", ".db"):
            continue
        with sqlite3.connect(path) as ledger:
            if (found := ledger.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                yield f"{path.name}: {found}"
            count = ledger.execute("SELECT count(*) FROM results").fetchone()[0]
        if count != len(run.results):
            yield f"{path.name} holds {count} results, the station told of {len(run.results)}"
