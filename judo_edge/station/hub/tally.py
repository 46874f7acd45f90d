"""Figures of the station: counters since the ledger began, latency of the last results, late verdicts in a row."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from judo_edge.core import Decision
from judo_edge.station.results import CHALLENGE, Code, Counters, Result

WINDOW = 500
"""Results that the latency is told of."""
_NAMES = {Decision.OK: "ok", Decision.NOK: "nok", Decision.NOT_DECIDABLE: "not_decidable"}


class Tally:
    """Counts in memory what the ledger holds."""

    def __init__(self, counters: Counters, last_number: int, seconds: Sequence[float]) -> None:
        """Begin with what the ledger says."""
        self.counters, self.last_number = counters, last_number
        self.late_in_a_row = 0
        self._seconds = deque(seconds, maxlen=WINDOW)

    def count(self, name: str, more: int = 1) -> None:
        """Add to a counter."""
        self.counters = self.counters.model_copy(update={name: getattr(self.counters, name) + more})

    @property
    def num_without_photo(self) -> int:
        """Return how many triggers were refused or missed so far."""
        return self.counters.missed + self.counters.refused

    def add(self, result: Result) -> None:
        """Count a result; challenge parts do not count."""
        self.last_number = max(self.last_number, result.number)
        if result.origin == CHALLENGE:
            return
        self.count(_NAMES[result.decision])
        self._seconds.append(result.total_seconds)
        if result.code is Code.DEADLINE:
            self.count("late")
            self.late_in_a_row += 1
        elif result.code in (Code.INSPECTED, Code.CHALLENGE_PENDING):
            self.late_in_a_row = 0

    def latency(self) -> dict[str, float]:
        """Return p50, p90, p99 and max in seconds (nearest rank); empty before the first result."""
        found = sorted(self._seconds)
        if not found:
            return {}
        percents = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
        return {name: found[-(-percent * len(found) // 100) - 1] for name, percent in percents.items()}
