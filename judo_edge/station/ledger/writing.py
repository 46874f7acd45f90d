"""The statements that change the ledger; each function is one transaction's work on a connection.

Runs in the writer's thread only. Knows rows and records, nothing of threads, disks or retries.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from judo_edge.station.ledger.reading import job_of_key
from judo_edge.station.results import CHALLENGE, Job, LateResult, Recipe, Result, utc_now
from judo_edge.station.workers import Kept

Connection = sqlite3.Connection


def add_job(connection: Connection, job: Job, boot: str) -> Job:
    """Add a job and return it; the earlier one where its key is known already."""
    if job.request.key and (earlier := job_of_key(connection, job.request.key)):
        return earlier
    request = job.request.model_dump_json(exclude_defaults=True)
    row = (job.job_id, job.request.key or None, request, job.recipe_id, job.created, job.deadline, boot, is_part(job))
    names = "job_id, key, request, recipe_id, created, deadline, boot, is_part"
    connection.execute(f"INSERT INTO jobs ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    return job


def is_part(job: Job) -> bool:
    """Tell whether a job is about a part of the line: challenge parts are not."""
    return job.request.origin != CHALLENGE


def add_result(connection: Connection, result: Result) -> Result | None:
    """Add a result with the next number and return it; None when its job has another one already.

    The same result again is returned as it was stored: its caller did not hear that it had been.
    """
    found = connection.execute("SELECT result_id, record FROM results WHERE job_id = ?", (result.job_id,)).fetchone()
    if found:
        return Result.model_validate_json(found[1]) if found[0] == result.result_id else None
    (last,) = connection.execute("SELECT COALESCE(MAX(number), 0) FROM results").fetchone()
    numbered = result.model_copy(update={"number": last + 1})
    row = {
        **numbered.model_dump(mode="json", include=_COLUMNS),
        "is_part": result.origin != CHALLENGE,
        "record": numbered.model_dump_json(exclude_defaults=True),
    }
    names = ", ".join(row)
    connection.execute(f"INSERT INTO results ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    return numbered


_COLUMNS = {
    *("number", "result_id", "job_id", "state", "decision", "code", "part_id", "meas_id", "product_id"),
    *("external_recipe_id", "internal_recipe_id", "created", "total_seconds"),
}


def add_late(connection: Connection, late: LateResult) -> None:
    """Add what the inspector said after the verdict."""
    connection.execute("INSERT INTO late (job_id, record) VALUES (?, ?)", (late.job_id, late.model_dump_json()))


def acknowledge(connection: Connection, sink: str, result_ids: Sequence[str]) -> tuple[bool, ...]:
    """Note results that a sink has taken, and move its cursor over those without a gap."""
    numbers = [_number(connection, result_id) for result_id in result_ids]
    connection.execute("INSERT OR IGNORE INTO cursors VALUES (?, 0)", (sink,))
    (cursor,) = connection.execute("SELECT number FROM cursors WHERE sink = ?", (sink,)).fetchone()
    rows = [(sink, number) for number in numbers if number is not None and number > cursor]
    connection.executemany("INSERT OR IGNORE INTO acknowledged VALUES (?, ?)", rows)
    _move_cursor(connection, sink, cursor)
    return tuple(number is not None for number in numbers)


def _number(connection: Connection, result_id: str) -> int | None:
    row = connection.execute("SELECT number FROM results WHERE result_id = ?", (result_id,)).fetchone()
    return None if row is None else int(row[0])


def _move_cursor(connection: Connection, sink: str, cursor: int) -> None:
    last = cursor
    for (number,) in connection.execute("SELECT number FROM acknowledged WHERE sink = ? ORDER BY number", (sink,)):
        if number != last + 1:
            break
        last = number
    connection.execute("UPDATE cursors SET number = ? WHERE sink = ?", (last, sink))
    connection.execute("DELETE FROM acknowledged WHERE sink = ? AND number <= ?", (sink, last))


def add_review(connection: Connection, result_id: str, decision: str, user: str, note: str) -> bool:
    """Add a person's verdict; False when there is no such result."""
    if _number(connection, result_id) is None:
        return False
    row = (result_id, decision, user, note, utc_now())
    connection.execute("INSERT INTO reviews (result_id, decision, user, note, at) VALUES (?, ?, ?, ?, ?)", row)
    return True


def add_evidence(connection: Connection, result_id: str, kept: Kept) -> None:
    """Note the files that the archive holds of a result."""
    row = (result_id, kept.photo, kept.mask_file, kept.num_bytes, utc_now())
    connection.execute("INSERT OR REPLACE INTO evidence VALUES (?, ?, ?, ?, ?, NULL)", row)


def remove_evidence(connection: Connection, result_ids: Sequence[str]) -> None:
    """Note that the files of results are gone; the rows stay."""
    rows = [(utc_now(), result_id) for result_id in result_ids]
    connection.executemany("UPDATE evidence SET removed = ? WHERE result_id = ? AND removed IS NULL", rows)


def add_recipe(connection: Connection, recipe: Recipe) -> None:
    """Note a version of a recipe; one that is known becomes the newest."""
    stored = recipe.model_copy(update={"is_prepared": False})
    key = (recipe.external_id, recipe.internal_id)
    connection.execute("DELETE FROM recipes WHERE external_id = ? AND internal_id = ?", key)
    row = (*key, stored.model_dump_json(exclude_defaults=True))
    connection.execute("INSERT INTO recipes (external_id, internal_id, record) VALUES (?, ?, ?)", row)


def add_audit(connection: Connection, user: str, action: str, data: dict[str, Any]) -> None:
    """Note who did what."""
    row = (utc_now(), user, action, json.dumps(data, ensure_ascii=False))
    connection.execute("INSERT INTO audit (at, user, action, data) VALUES (?, ?, ?, ?)", row)


def count(connection: Connection, name: str, more: int) -> None:
    """Add to a counter."""
    statement = "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
    connection.execute(statement, (name, more))


def pin(connection: Connection, external_id: str, internal_id: str) -> None:
    """Note which version of a recipe somebody chose; an empty internal id stands for the newest."""
    connection.execute("DELETE FROM pins WHERE external_id = ?", (external_id,))
    if internal_id:
        connection.execute("INSERT INTO pins VALUES (?, ?)", (external_id, internal_id))
