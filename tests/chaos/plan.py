"""How fast a run goes."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

PHOTO_SHARE = 0.2
"""Parts that come as photos in the folder, beside the triggers."""
OPCUA_SHARE = 0.2
"""Triggers that come from the PLC by OPC UA; the others come by the hub's socket."""
CALL_SECONDS = 5.0
"""A caller's patience with a trigger."""
QUIET_SECONDS = (0.2, 0.8)
"""Between two faults."""
SURELY_REFUSED = -90
"""Error numbers above this say that there is no job; from here on down nobody knows."""


class Clock:
    """Random moments at a mean distance; what is late catches up at twice the pace."""

    def __init__(self, seconds: float, rng: random.Random) -> None:
        """Begin now."""
        self._seconds, self._rng, self._due = seconds, rng, time.monotonic()

    async def next(self) -> None:
        """Wait for the next moment."""
        step = self._rng.uniform(0, 2 * self._seconds)
        self._due += step
        await asyncio.sleep(max(step / 2, self._due - time.monotonic()))


@dataclass(frozen=True)
class Pace:
    """How triggers come."""

    seconds: float
    """Mean of the seconds between two triggers by the socket."""
    callers: int = 4
    """Triggers by the socket that may wait for their answer at once."""


SCRIPTED, NANO = Pace(0.16), Pace(0.8)
"""10,000 triggers in 20 to 25 minutes; real inference on two cores."""
