"""From ledger to broker: a result is acknowledged after the broker has it, so none is lost, and they are in order.

The ledger is the queue: after a connection was lost, sending begins again with the oldest result that is not
acknowledged. What the broker had already confirmed to a connection that then broke may come twice, with the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from judo_edge.errors import StationError
from judo_edge.station.api import StationApi
from judo_edge.station.mqtt.link import CLOSE_SECONDS, MAX_UNCONFIRMED, BrokerError, Link
from judo_edge.station.mqtt.payload import (
    payload_of_condition,
    payload_of_result,
    payload_of_state,
    payload_offline,
)
from judo_edge.station.results import Condition, EventKind, Result, StationEvent, Status, utc_now
from judo_edge.station.wire import LostError

SINK = "mqtt"
"""The name under which results are acknowledged."""
LOOK_SECONDS, STATE_SECONDS = 5.0, 10.0
"""Seconds: between looks into the ledger when no event came, and between states when nothing changed."""
_FIRST_PAUSE, _LONGEST_PAUSE, _HUB_PAUSE = 0.5, 30.0, 0.5

_log = logging.getLogger(__name__)


class Sink:
    """Publishes a station's results, states and conditions."""

    def __init__(
        self, station: StationApi, connect: Callable[[], Awaitable[Link]], tell: Callable[[str], Awaitable[None]]
    ) -> None:
        """Take the station, what makes a connection to the broker, and whom to tell why there is none (or empty)."""
        self._station, self._connect, self._tell = station, connect, tell
        self._more = asyncio.Event()
        self._shown: tuple[Any, float] | None = None
        """What the last state told and when, by the loop's clock; None after Offline."""

    async def run(self) -> None:
        """Publish until cancelled; a broker or a hub that is away is waited for."""
        pause = _FIRST_PAUSE
        while True:
            try:
                link = await self._connect()
                pause = _FIRST_PAUSE
                await self._serve(link)
            except BrokerError as error:
                _log.warning("%s", error)
                with contextlib.suppress(StationError):
                    await self._tell(str(error))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _serve(self, link: Link) -> None:
        """Publish over one connection until it is lost; says Offline when it ends otherwise."""
        self._shown = (None, 0.0)
        try:
            while not link.lost.is_set():
                try:
                    await _until_first_ends(link.lost.wait(), self._results(link), self._events(link))
                except LostError:
                    self._say_offline(link)  # without a hub no verdict can be made
                except StationError as error:  # such as a full disk, or the broker's end
                    _log.warning("%s", error)
                await _until_first_ends(link.lost.wait(), asyncio.sleep(_HUB_PAUSE))
        finally:
            await asyncio.shield(asyncio.ensure_future(_ended(link)))

    async def _results(self, link: Link) -> None:
        while True:
            self._more.clear()
            results = await self._station.unacknowledged(SINK, MAX_UNCONFIRMED)
            if results:
                await self._send(link, results)
            else:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._more.wait(), LOOK_SECONDS)

    async def _send(self, link: Link, results: Sequence[Result]) -> None:
        """Publish in order and acknowledge what the broker has, also when the connection breaks in between."""
        sent = [link.publish("result", partial(payload_of_result, result)) for result in results]
        done: list[str] = []
        try:
            for result, confirmed in zip(results, sent, strict=True):
                await confirmed
                done.append(result.result_id)
        finally:
            for confirmed in sent:
                confirmed.cancel()
            if done:
                await asyncio.shield(asyncio.ensure_future(self._station.acknowledge(SINK, done)))

    async def _events(self, link: Link) -> None:
        await self._tell("")
        self._show(link, await self._station.status(), utc_now())
        async for event in self._station.events():
            self._take(link, event)

    def _take(self, link: Link, event: StationEvent) -> None:
        if event.kind is EventKind.RESULT:
            self._more.set()
        elif event.kind is EventKind.CONDITION:
            condition = Condition.model_validate(event.data)
            link.publish("condition", partial(payload_of_condition, condition, at=event.at))
        elif event.kind is EventKind.HEARTBEAT:
            self._show(link, Status.model_validate(event.data), event.at)

    def _show(self, link: Link, status: Status, at: str) -> None:
        """Publish the state when something changed, and now and then."""
        now = asyncio.get_running_loop().time()
        facts = (status.state, status.is_simulating, status.recipes, status.conditions, status.challenge)
        if self._shown is None or self._shown[0] != facts or now - self._shown[1] >= STATE_SECONDS:
            self._shown = (facts, now)
            link.publish("state", partial(payload_of_state, status, at=at), retain=True)

    def _say_offline(self, link: Link) -> None:
        if self._shown is not None:
            link.publish("state", partial(payload_offline, at=utc_now()), retain=True)
            self._shown = None


async def _ended(link: Link) -> None:
    """Say that the station is off, if anybody still hears it, and hang up."""
    with contextlib.suppress(BrokerError, asyncio.TimeoutError):
        await asyncio.wait_for(link.publish("state", partial(payload_offline, at=utc_now()), True), CLOSE_SECONDS)
    await link.close()


async def _until_first_ends(*work: Coroutine[Any, Any, Any]) -> None:
    """Run all until one ends, and cancel the others; raises what that one raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
