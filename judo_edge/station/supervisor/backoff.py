"""How long to wait before a process is started again. Knows no process.

Waits double and are jittered, so that processes which fell together do not come back together.
"""

from __future__ import annotations

import random
from collections import deque

SHORTEST, LONGEST = 0.25, 30.0
"""Seconds of the first wait, and of the longest."""
HEALTHY = 60.0
"""A process that lived so long begins with the shortest wait again."""
WINDOW, MANY = 60.0, 5
"""More than `MANY` ends within `WINDOW` seconds are told."""


class Backoff:
    """The waits of one process."""

    def __init__(self, rng: random.Random | None = None) -> None:
        """Begin without a past; `rng` is for tests."""
        self._rng = rng or random.Random()
        self._num_short = 0
        self._ends: deque[float] = deque()

    def delay(self, lived: float, now: float) -> float:
        """Note that the process ended at `now` after `lived` seconds; return the seconds to wait.

        Between half and all of 0.25 s doubled per short life, at most 30 s.
        """
        self._num_short = 0 if lived >= HEALTHY else self._num_short + 1
        self._ends.append(now)
        top = min(LONGEST, SHORTEST * float(1 << min(self._num_short, 20)))
        return top * self._rng.uniform(0.5, 1.0)

    def recent(self, now: float) -> int:
        """Count the ends within the last minute."""
        while self._ends and self._ends[0] < now - WINDOW:
            self._ends.popleft()
        return len(self._ends)
