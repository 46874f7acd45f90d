"""Reads a ledger beside the station that writes it: results with their reviews and late results, and reviewed photos.

Each query reads a bounded number of rows, so that no long transaction keeps the station's write-ahead log from ending.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from judo_edge.core import Decision
from judo_edge.errors import InputError, first_line
from judo_edge.station.config import StationConfig
from judo_edge.station.ledger.database import connection_for_reading
from judo_edge.station.ledger.ledger import FILE_NAME
from judo_edge.station.results import LateResult, Result
from judo_edge.station.tables import Exported

ROWS_AT_ONCE = 500

_LATEST_REVIEW = "(SELECT MAX(review_id) FROM reviews WHERE result_id = r.result_id)"
_ROWS = f"""
SELECT r.number, r.record, e.photo, e.mask_file, v.decision, v.user, v.note, v.at, l.record
FROM results r
LEFT JOIN evidence e ON e.result_id = r.result_id AND e.removed IS NULL
LEFT JOIN reviews v ON v.review_id = {_LATEST_REVIEW}
LEFT JOIN late l ON l.late_id = (SELECT MIN(late_id) FROM late WHERE job_id = r.job_id)
WHERE r.number > ? AND r.created >= ? AND r.created < ? ORDER BY r.number LIMIT ?
"""
_REVIEWED = f"""
SELECT e.photo, v.decision, json_extract(r.record, '$.part') FROM results r
JOIN evidence e ON e.result_id = r.result_id AND e.removed IS NULL AND e.photo != ''
JOIN reviews v ON v.review_id = {_LATEST_REVIEW} AND v.decision IN ('OK', 'NOK')
WHERE r.is_part ORDER BY r.number
"""
_BEGINNING, _END = "", "~"
"""Texts before and after every time."""


class ReviewedPhoto(NamedTuple):
    """An archived photo on which a person gave a verdict."""

    path: Path
    is_defect: bool


def exported_rows(
    config: StationConfig, since: datetime | None = None, until: datetime | None = None
) -> Iterator[Exported]:
    """Yield the results of a station by number, those made from `since` on and before `until`.

    Of several late results of a job the first is given. Raises InputError when the ledger cannot be read.
    """
    bounds = (_text(since, _BEGINNING), _text(until, _END))
    with closing(_connection(config)) as connection:
        number = 0
        while rows := _queried(connection, _ROWS, (number, *bounds, ROWS_AT_ONCE)):
            yield from (_exported(*row) for _, *row in rows)
            number = rows[-1][0]


def reviewed_photos(config: StationConfig, part: str) -> tuple[ReviewedPhoto, ...]:
    """Return the photos of a part that a person called good or bad, as far as the archive still holds them.

    Raises InputError when the ledger cannot be read.
    """
    archive = config.archive
    with closing(_connection(config)) as connection:
        rows = _queried(connection, _REVIEWED, ())
    found = [
        ReviewedPhoto(archive / photo, decision == Decision.NOK.value) for photo, decision, of in rows if of == part
    ]
    return tuple(photo for photo in found if photo.path.is_file())


def time_from_text(text: str) -> datetime:
    """Read a date or a time (ISO 8601); without a zone it is the machine's. InputError when it is neither."""
    try:
        return datetime.fromisoformat(text).astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{text!r} is no time", "such as 2026-11-25 or 2026-11-25T06:00") from error


def _exported(
    record: str, photo: str | None, mask_file: str | None, review: str | None, *beside: str | None
) -> Exported:
    files = {"photo": photo or "", "mask_file": mask_file or ""}
    result = Result.model_validate({**json.loads(record), **files, "review": review or ""})
    user, note, at, late = beside
    return Exported(
        result, user or "", note or "", at or "", LateResult.model_validate_json(late) if late else None
    )  # fmt: skip


def _connection(config: StationConfig) -> sqlite3.Connection:
    path = config.data / FILE_NAME
    if not path.is_file():
        raise InputError(f"no ledger at {path}", "a station that has run", "check station.data")
    return connection_for_reading(path)


def _queried(connection: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> list[Any]:
    try:
        return connection.execute(statement, values).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"the ledger cannot be read: {first_line(error)}", "a ledger of this version") from error


def _text(time: datetime | None, default: str) -> str:
    """Return a time as the ledger writes it, so that texts compare as times do."""
    return default if time is None else time.astimezone(timezone.utc).isoformat(timespec="microseconds")
