"""Retention: which photos and masks leave the archive, by age, size and free space; verdicts are never removed.

When there is too little room, photos of good parts go first, then rejected ones, then undecided ones, and last those on
which a person gave a verdict: they are what a decision can be calibrated from. By age only those go that nobody
reviewed. A few files go per tick. A file is removed before its row says so: after a crash in between the next
tick puts the row right. Knows the ledger only as a `Shelf`; everything here blocks and belongs in a thread.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from judo_edge.core import Decision
from judo_edge.station.config import RetentionTable
from judo_edge.station.results import Severity

PER_TICK = 20
"""Results whose files one tick may remove."""
HEADROOM = 1.05
"""Free space is restored to so many times what is wanted, so that it does not run short again at once."""
_MEGABYTE = 1_000_000
_ORDER = tuple(
    (decision, is_reviewed)
    for is_reviewed in (False, True)
    for decision in (Decision.OK, Decision.NOK, Decision.NOT_DECIDABLE)
)
"""Whose files go first when there is too little room."""
_MEMORY = timedelta(hours=1)
"""So long a warning stays after files last had to go early."""
_NAMES = {Decision.OK: "good parts", Decision.NOK: "rejected parts", Decision.NOT_DECIDABLE: "undecided parts"}

_log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """The files of one result."""

    result_id: str
    created: str
    """UTC, ISO 8601."""
    files: tuple[str, ...]
    """Names relative to the archive."""
    num_bytes: int


class Shelf(Protocol):
    """What retention needs of the ledger."""

    def total_bytes(self) -> int:
        """Return the size of all files in the archive."""
        ...

    def oldest(self, decision: Decision, is_reviewed: bool, limit: int) -> Sequence[Stored]:
        """Return the oldest results of a kind that still have files."""
        ...

    def mark_removed(self, result_ids: Sequence[str]) -> None:
        """Note that the files of some results are gone."""
        ...


class Tick(NamedTuple):
    """What one tick did and found."""

    num_removed: int
    is_more: bool
    """Whether there is more to remove at once."""
    severity: Severity
    text: str
    """What is wrong, for the condition `archive`; empty when nothing is."""


class Retention:
    """Keeps the archive within its bounds."""

    def __init__(
        self,
        table: RetentionTable,
        archive: Path,
        shelf: Shelf,
        free_bytes: Callable[[], int] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """Name the archive; `free_bytes` tells the free space of its disk."""
        self._table, self._archive, self._shelf, self._now = table, archive, shelf, now
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(_existing(archive)).free)
        self._early: dict[Decision, tuple[datetime, timedelta]] = {}

    def tick(self) -> Tick:
        """Remove a few files if any have to go, and say whether something is wrong."""
        expired = list(self._expired())
        gone = self._remove(expired)
        lacking = self._lacking()
        crowded = list(self._crowding(lacking, PER_TICK - len(expired))) if lacking > 0 else []
        crowded_gone = self._remove([stored for _, stored in crowded])
        self._note_early(crowded)
        num_removed, num_wanted = gone + crowded_gone, len(expired) + len(crowded)
        is_more = num_removed == num_wanted and num_wanted > 0 and (num_wanted >= PER_TICK or self._lacking() > 0)
        return Tick(num_removed, is_more, *self._warning(is_more))

    def _expired(self) -> Iterator[Stored]:
        """Yield what is too old."""
        num_left = PER_TICK
        for decision in _NAMES:
            days = self._table.max_days_ok if decision is Decision.OK else self._table.max_days_nok
            limit = self._now() - timedelta(days=days)
            for stored in self._shelf.oldest(decision, False, num_left) if num_left else ():
                if datetime.fromisoformat(stored.created) >= limit:
                    break
                num_left -= 1
                yield stored

    def _lacking(self) -> int:
        """Return how many bytes have to go: for the archive's size or for the disk's free space, whatever is more."""
        wanted = self._table.keep_free_megabytes * _MEGABYTE
        free = self._free_bytes()
        missing = int(wanted * HEADROOM) - free if free < wanted else 0
        return max(missing, self._shelf.total_bytes() - self._table.max_megabytes * _MEGABYTE)

    def _crowding(self, lacking: int, limit: int) -> Iterator[tuple[Decision, Stored]]:
        """Yield what has to go for lack of room, the least worth first."""
        num_left = limit
        for decision, is_reviewed in _ORDER:
            for stored in self._shelf.oldest(decision, is_reviewed, num_left) if num_left > 0 else ():
                if lacking <= 0:
                    return
                lacking -= stored.num_bytes
                num_left -= 1
                yield decision, stored

    def _remove(self, results: Sequence[Stored]) -> int:
        """Remove files, then mark their rows; returns how many results that were."""
        gone = [stored.result_id for stored in results if self._is_removed(stored)]
        if gone:
            self._shelf.mark_removed(gone)
        return len(gone)

    def _is_removed(self, stored: Stored) -> bool:
        try:
            for name in stored.files:
                _path_in(self._archive, name).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s cannot be removed: %s", stored.files, error.strerror)
            return False
        return True

    def _note_early(self, crowded: Sequence[tuple[Decision, Stored]]) -> None:
        for decision, stored in crowded:
            self._early[decision] = (self._now(), self._now() - datetime.fromisoformat(stored.created))

    def _warning(self, is_more: bool) -> tuple[Severity, str]:
        """Say what is wrong: no room although nothing is left to remove, or photos that go before their time."""
        if self._lacking() > 0 and not is_more:
            held, free = self._shelf.total_bytes() // _MEGABYTE, self._free_bytes() // _MEGABYTE
            allowed = f"{self._table.max_megabytes} MB allowed, {self._table.keep_free_megabytes} MB to be kept free"
            found = f"the archive holds {held} MB, {free} MB are free ({allowed})"
            return Severity.ERROR, f"{found}, and no photo can be removed: make room"
        now = self._now()
        early = {decision: age for decision, (at, age) in self._early.items() if now - at < _MEMORY}
        if not early:
            return Severity.INFORMATION, ""
        kept = "; ".join(f"photos of {_NAMES[decision]} go after {_text(age)}" for decision, age in early.items())
        severity = Severity.INFORMATION if set(early) == {Decision.OK} else Severity.WARNING
        return severity, f"too little room for the archive: {kept}"


def _path_in(archive: Path, name: str) -> Path:
    """Return the path of a file of the archive; OSError for a name that leads out of it."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise OSError(0, "the name leads out of the archive")
    return archive / pure


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _text(age: timedelta) -> str:
    days = age / timedelta(days=1)
    return f"{days:.1f} days" if days >= 1 else f"{24 * days:.1f} hours"
