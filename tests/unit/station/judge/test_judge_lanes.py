"""A thread that does one thing after the other: order, urgency, what is cancelled, what is raised."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from judo_edge.station.judge.lanes import Lane

PATIENCE = 30.0


def in_lane(use: Callable[[Lane], Awaitable[None]]) -> None:
    async def main() -> None:
        lane = Lane("test")
        try:
            await asyncio.wait_for(use(lane), PATIENCE)
        finally:
            lane.close()

    asyncio.run(main())


def blocked(lane: Lane) -> tuple[asyncio.Task[Any], threading.Event]:
    """Occupy the lane until the event is set."""
    event = threading.Event()
    return asyncio.create_task(lane.call(lambda: event.wait(PATIENCE))), event


def test_the_more_urgent_first_then_as_they_came() -> None:
    async def use(lane: Lane) -> None:
        first, event = blocked(lane)
        await asyncio.sleep(0)
        done: list[str] = []
        calls = [
            asyncio.create_task(lane.call(lambda name=name: done.append(name), urgency))
            for name, urgency in (("ask", 2), ("a", 0), ("prepare", 1), ("b", 0), ("c", 0))
        ]
        await asyncio.sleep(0)
        event.set()
        await asyncio.gather(first, *calls)
        assert done == ["a", "b", "c", "prepare", "ask"]

    in_lane(use)


def test_a_call_that_is_cancelled_before_its_turn_is_left_out() -> None:
    async def use(lane: Lane) -> None:
        first, event = blocked(lane)
        await asyncio.sleep(0)
        done: list[int] = []
        waiting = asyncio.create_task(lane.call(lambda: done.append(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        event.set()
        await first
        await lane.call(lambda: done.append(2))
        assert done == [2]

    in_lane(use)


def test_one_that_runs_is_finished_although_nobody_waits() -> None:
    async def use(lane: Lane) -> None:
        done: list[int] = []
        event = threading.Event()

        def work(emit: Callable[[Any], None]) -> None:
            emit("begun")
            event.wait(PATIENCE)
            emit("lost")
            done.append(1)

        async for item in lane.stream(work):
            assert item == "begun"
            break
        event.set()
        await lane.call(lambda: None)
        assert done == [1]

    in_lane(use)


def test_a_stream_yields_in_order_and_raises_what_it_raises() -> None:
    async def use(lane: Lane) -> None:
        def work(emit: Callable[[Any], None]) -> None:
            for number in range(1000):
                emit(number)
            raise ValueError("at the end")

        found = []
        with pytest.raises(ValueError, match="at the end"):
            async for item in lane.stream(work):
                found.append(item)  # noqa: PERF401 - what came before the error counts
        assert found == list(range(1000))
        assert await lane.call(lambda: 5) == 5

    in_lane(use)
