"""How fast a run goes."""

from __future__ import annotations

from dataclasses import dataclass

PHOTO_SHARE = 0.2
"""Parts that come as photos in the folder, beside the triggers."""
OPCUA_SHARE = 0.2
"""Triggers that come from the PLC by OPC UA; the others come by the hub's socket."""
CALL_SECONDS = 5.0
"""A caller's patience with a trigger."""
QUIET_SECONDS = (0.2, 1.0)
"""Between two faults."""
SURELY_REFUSED = -90
"""Error numbers above this say that there is no job; from here on down nobody knows."""


@dataclass(frozen=True)
class Pace:
    """How triggers come."""

    seconds: float
    """Mean of the seconds between two triggers by the socket."""
    callers: int = 4
    """Triggers by the socket that may wait for their answer at once."""


SCRIPTED, NANO = Pace(0.15), Pace(0.8)
"""10,000 triggers in 20 to 25 minutes; real inference on two cores."""
