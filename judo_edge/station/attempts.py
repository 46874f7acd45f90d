"""Slows the guessing of passwords, by whatever keys name who tries. Knows no protocol and no password."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FREE_ATTEMPTS = 5
"""Wrong passwords in a row that cost nothing."""
LONGEST_WAIT = 60.0
"""Seconds; the wait doubles from one second up to this, so that nobody is locked out for good."""
FORGOTTEN = 900.0
"""Seconds after which attempts no longer count."""
_MAX_KEYS = 10_000


@dataclass
class _Tries:
    count: int = 0
    last: float = 0.0


class Attempts:
    """Attempts that have not succeeded."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without any."""
        self._clock = clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def wait(self, keys: Sequence[str]) -> float:
        """Return how many seconds must pass before any of these may try again."""
        return max(self._wait(key) for key in keys)

    def count(self, keys: Sequence[str]) -> None:
        """Count an attempt before its password is looked at, so that many at once are slowed like one after another."""
        now = self._clock()
        for key in keys:
            tries = self._tries.setdefault(key, _Tries())
            tries.count = 1 if now - tries.last > FORGOTTEN else tries.count + 1
            tries.last = now
            self._tries.move_to_end(key)
        while len(self._tries) > _MAX_KEYS:
            self._tries.popitem(last=False)

    def forget(self, keys: Sequence[str]) -> None:
        """Forget attempts that a right password ended."""
        for key in keys:
            self._tries.pop(key, None)

    def _wait(self, key: str) -> float:
        tries = self._tries.get(key)
        if tries is None or tries.count < FREE_ATTEMPTS:
            return 0.0
        pause = min(2.0 ** min(tries.count - FREE_ATTEMPTS, 10), LONGEST_WAIT)
        return max(0.0, tries.last + pause - self._clock())
