"""The ledger as retention sees it: which files the archive holds, the oldest first. Everything here blocks.

Reads over a connection of its own; what it notes goes through the ledger's one writer.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from judo_edge.core import Decision
from judo_edge.errors import StationError, first_line
from judo_edge.station.ledger.database import connection_for_reading
from judo_edge.station.retention import Stored

_REVIEW = "(SELECT v.decision FROM reviews v WHERE v.result_id = e.result_id ORDER BY v.review_id DESC LIMIT 1)"
_OLDEST = f"""
SELECT e.result_id, r.created, e.photo, e.mask_file, e.num_bytes
FROM evidence e CROSS JOIN results r ON r.result_id = e.result_id
WHERE e.removed IS NULL AND r.decision = ? AND (COALESCE({_REVIEW}, '') != '') = ? ORDER BY e.kept LIMIT ?
"""
_TOTAL = "SELECT COALESCE(SUM(num_bytes), 0) FROM evidence WHERE removed IS NULL"
_BEGAN = "SELECT created FROM jobs ORDER BY seq LIMIT 1"
_NAMED = "SELECT photo, mask_file FROM evidence WHERE removed IS NULL AND result_id = ?"


class ArchiveRows:
    """A `retention.Shelf` over a ledger."""

    def __init__(self, path: Path, mark: Callable[[Sequence[str]], None]) -> None:
        """Name the ledger's file; `mark` notes durably that the files of results are gone."""
        self._connection, self._mark = connection_for_reading(path), mark

    def total_bytes(self) -> int:
        """See Shelf."""
        return int(self._rows(_TOTAL)[0][0])

    def oldest(self, decision: Decision, is_reviewed: bool, limit: int) -> Sequence[Stored]:
        """See Shelf."""
        rows = self._rows(_OLDEST, decision.value, is_reviewed, limit)
        return [
            Stored(result_id, created, tuple(name for name in (photo, mask) if name), num_bytes)
            for result_id, created, photo, mask, num_bytes in rows
        ]

    def mark_removed(self, result_ids: Sequence[str]) -> None:
        """See Shelf."""
        self._mark(result_ids)

    def known(self, names: Sequence[str]) -> frozenset[str]:
        """Return those of some files of the archive that a result has; their names begin with its id."""
        results = sorted({Path(name).stem for name in names})
        return frozenset(name for result_id in results for row in self._rows(_NAMED, result_id) for name in row)

    def began(self) -> float:
        """Return when the ledger took its first job, in seconds since 1970; infinity before that."""
        rows = self._rows(_BEGAN)
        return datetime.fromisoformat(rows[0][0]).timestamp() if rows else math.inf

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StationError(f"the ledger cannot be read: {first_line(error)}") from error
