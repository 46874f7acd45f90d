"""The PLC's heartbeat: one that stands still becomes a tag, a condition and a line in the log."""

from __future__ import annotations

import asyncio
import logging

from judo_edge.station.opcua.conditions import PLC, Conditions
from judo_edge.station.opcua.space import Space
from judo_edge.station.opcua.tags import Tags
from judo_edge.station.results import Condition, Severity, utc_now

TICK = 0.5
"""Seconds between two looks."""
_log = logging.getLogger(__name__)


async def watch_plc(space: Space, tags: Tags, conditions: Conditions) -> None:
    """Look at the heartbeat until cancelled."""
    was_alive, since = True, ""
    while True:
        await asyncio.sleep(TICK)
        is_alive = await tags.watch_plc()
        if is_alive != was_alive:
            since = since if is_alive else utc_now()
            was_alive = is_alive
            _log.warning("the PLC's heartbeat %s", "is back" if is_alive else "stands still")
            await conditions.changed(_condition(is_alive, since, space.config.opcua.plc_timeout))


def _condition(is_alive: bool, since: str, seconds: float) -> Condition:
    return Condition(
        name=PLC,
        severity=Severity.WARNING,
        code=0,
        text=f"the PLC's heartbeat stood still for {seconds:g} s",
        since=since,
        is_active=not is_alive,
        is_acknowledged=is_alive,
    )
