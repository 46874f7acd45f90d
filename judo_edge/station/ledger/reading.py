"""The queries of the ledger: rows back to records, with what came after a verdict joined to it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from judo_edge.core import Decision
from judo_edge.station.results import Code, Counters, Job, JobRequest, Recipe, Result, ResultQuery

Connection = sqlite3.Connection

_REVIEW = "(SELECT v.decision FROM reviews v WHERE v.result_id = r.result_id ORDER BY v.review_id DESC LIMIT 1)"
_JOINED = (
    f"SELECT r.record, e.photo, e.mask_file, e.removed, {_REVIEW}"
    " FROM results r LEFT JOIN evidence e ON e.result_id = r.result_id"
)
_UNREVIEWED = f"COALESCE({_REVIEW}, '') = ''"
_FILTERS = (
    *("state", "decision", "meas_id", "part_id", "product_id", "external_recipe_id", "internal_recipe_id", "job_id"),
)


class Evidence(NamedTuple):
    """Files that the archive holds of one result, names relative to its folder."""

    result_id: str
    decision: Decision
    photo: str
    mask_file: str
    num_bytes: int
    kept: str
    """When they were written; UTC, ISO 8601."""


def job_of_key(connection: Connection, key: str) -> Job | None:
    """Return the job that a caller's key stands for."""
    row = connection.execute(f"SELECT {_JOB} FROM jobs WHERE key = ?", (key,)).fetchone()
    return None if row is None else _job(row)


_JOB = "job_id, request, recipe_id, created, deadline"


def _job(row: Sequence[Any]) -> Job:
    job_id, request, recipe_id, created, deadline = row
    request = JobRequest.model_validate_json(request)
    return Job(job_id=job_id, request=request, recipe_id=recipe_id, created=created, deadline=deadline)


def unanswered_jobs(connection: Connection) -> tuple[Job, ...]:
    """Return the jobs without a result, in the order in which they were accepted."""
    where = "NOT EXISTS (SELECT 1 FROM results r WHERE r.job_id = j.job_id)"
    return tuple(_job(row) for row in connection.execute(f"SELECT {_JOB} FROM jobs j WHERE {where} ORDER BY seq"))


def results(connection: Connection, query: ResultQuery) -> tuple[Result, ...]:
    """Return stored results as the query wants them."""
    wanted = query.model_dump(mode="json")
    used = [name for name in _FILTERS if wanted[name] not in ("", None)]
    where = ["r.number > ?", *(f"r.{name} = ?" for name in used)]
    if query.is_unreviewed:
        where.append(_UNREVIEWED)
    order = "DESC" if query.newest_first else "ASC"
    statement = f"{_JOINED} WHERE {' AND '.join(where)} ORDER BY r.number {order} LIMIT ?"
    values = (query.after, *(wanted[name] for name in used), query.limit)
    return tuple(_result(row) for row in connection.execute(statement, values))


def result(connection: Connection, result_id: str) -> Result | None:
    """Return one result."""
    row = connection.execute(f"{_JOINED} WHERE r.result_id = ?", (result_id,)).fetchone()
    return None if row is None else _result(row)


def unacknowledged(connection: Connection, sink: str, limit: int) -> tuple[Result, ...]:
    """Return the oldest results that a sink has not taken."""
    where = (
        "r.number > COALESCE((SELECT number FROM cursors WHERE sink = ?), 0) AND NOT EXISTS"
        " (SELECT 1 FROM acknowledged a WHERE a.sink = ? AND a.number = r.number)"
    )
    statement = f"{_JOINED} WHERE {where} ORDER BY r.number LIMIT ?"
    return tuple(_result(row) for row in connection.execute(statement, (sink, sink, limit)))


def _result(row: Sequence[Any]) -> Result:
    record, photo, mask_file, removed, review = row
    files = {} if removed or photo is None else {"photo": photo, "mask_file": mask_file}
    return Result.model_validate({**json.loads(record), **files, "review": review or ""})


def evidence(connection: Connection, decision: Decision | None, limit: int) -> tuple[Evidence, ...]:
    """Return the oldest files that the archive still holds, of one decision or of all."""
    where = "" if decision is None else "AND r.decision = ?"
    statement = (
        "SELECT e.result_id, r.decision, e.photo, e.mask_file, e.num_bytes, e.kept FROM evidence e"
        f" JOIN results r ON r.result_id = e.result_id WHERE e.removed IS NULL {where} ORDER BY r.number LIMIT ?"
    )
    values = (limit,) if decision is None else (decision.value, limit)
    rows = connection.execute(statement, values)
    return tuple(Evidence(row[0], Decision(row[1]), *row[2:]) for row in rows)


def evidence_bytes(connection: Connection) -> int:
    """Return how many bytes the archive holds."""
    (total,) = connection.execute("SELECT COALESCE(SUM(num_bytes), 0) FROM evidence WHERE removed IS NULL").fetchone()
    return int(total)


def recipes(connection: Connection) -> tuple[Recipe, ...]:
    """Return every version of every recipe, newest first."""
    rows = connection.execute("SELECT record FROM recipes ORDER BY seen DESC")
    return tuple(Recipe.model_validate_json(record) for (record,) in rows)


def counters(connection: Connection) -> Counters:
    """Count what the station did since its ledger began; challenge parts do not count."""
    by_decision = dict(connection.execute("SELECT decision, COUNT(*) FROM results WHERE is_part GROUP BY decision"))
    (late,) = connection.execute(
        "SELECT COUNT(*) FROM results WHERE is_part AND code = ?", (int(Code.DEADLINE),)
    ).fetchone()
    (triggers,) = connection.execute("SELECT COUNT(*) FROM jobs WHERE is_part").fetchone()
    named = dict(connection.execute("SELECT name, value FROM counters WHERE name IN ('missed', 'refused')"))
    by_name = {decision.value.lower(): by_decision.get(decision.value, 0) for decision in Decision}
    return Counters(triggers=triggers, late=late, **by_name, **named)


def last_number(connection: Connection) -> int:
    """Return the number of the last result, 0 when there is none."""
    (number,) = connection.execute("SELECT COALESCE(MAX(number), 0) FROM results").fetchone()
    return int(number)


def last_seconds(connection: Connection, limit: int) -> tuple[float, ...]:
    """Return the seconds from trigger to verdict of the last parts, oldest first."""
    statement = "SELECT total_seconds FROM results WHERE is_part ORDER BY number DESC LIMIT ?"
    return tuple(seconds for (seconds,) in connection.execute(statement, (limit,)))[::-1]


def audit(connection: Connection, limit: int) -> tuple[dict[str, Any], ...]:
    """Return who did what, newest first: at, user, action, data."""
    rows = connection.execute("SELECT at, user, action, data FROM audit ORDER BY audit_id DESC LIMIT ?", (limit,))
    return tuple(
        {"at": at, "user": user, "action": action, "data": json.loads(data)} for at, user, action, data in rows
    )


def pins(connection: Connection) -> dict[str, str]:
    """Return the versions that somebody chose: internal by external id."""
    return dict(connection.execute("SELECT external_id, internal_id FROM pins"))
