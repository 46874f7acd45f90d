from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `web` (fastapi)")

from judo_edge.errors import StationError
from judo_edge.station.results import EventKind, JobRequest
from judo_edge.station.web.watch import QUEUED, Watch
from tests.memory_station import HOSTILE, MemoryStation
from tests.unit.station.web.site import Site, until


def messages_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


async def heard(site: Site, num: int, act: Any) -> list[dict[str, Any]]:
    """Return the first messages of a stream; `act` runs when the first has come."""
    found: list[dict[str, Any]] = []

    async def take(text: str) -> bool:
        is_first = not found
        found.extend(messages_of(text))
        if is_first and found:
            await act()
        return len(found) >= num

    assert await site.stream("/api/events", "ole", take) == 200
    return found


def test_events_come_in_their_order_and_whole(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def act() -> None:
        for number in range(20):
            await site.station.trigger(JobRequest(part_id=f"{number} {HOSTILE}\n\ndata: {{}}"))

    async def run() -> None:
        async with site.watching():
            found = await heard(site, 61, act)
        assert found[0]["kind"] == "present" and found[0]["data"]["station"] == "press-4"
        told = found[1:61]
        assert [one["number"] for one in told] == list(range(1, 61))
        assert [one["kind"] for one in told[:3]] == ["job-started", "result", "evidence"]
        results = [one["data"] for one in told if one["kind"] == "result"]
        assert [one["number"] for one in results] == list(range(1, 21))
        assert results[3]["part_id"] == f"3 {HOSTILE}\n\ndata: {{}}"

    asyncio.run(run())


def test_a_browser_is_told_that_the_station_is_away_and_back(tmp_path: Path) -> None:
    site = Site(tmp_path)
    kinds: list[str] = []

    async def run() -> None:
        async def take(text: str) -> bool:
            kinds.extend(one["kind"] for one in messages_of(text))
            if kinds == ["present"]:
                site.station.go_away()
            if kinds[-1] == "away" and site.station.is_away:
                assert site.desk.watch.is_away
                site.station.is_away = False
            return kinds[-1] == "present" and "away" in kinds

        async with site.watching():
            await site.stream("/api/events", "ole", take)
        assert kinds[0] == "present" and kinds[1] == "away" and kinds[-1] == "present"

    asyncio.run(run())


def test_health_tells_anybody_only_whether_the_station_is_there(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client() as client:
            away = await client.get("/healthz")
            assert (away.status_code, away.text) == (503, "away")
            async with site.watching():
                there = await client.get("/healthz")
                assert (there.status_code, there.text) == (200, "ok")

    asyncio.run(run())


def test_a_silent_station_counts_as_away(tmp_path: Path) -> None:
    station = MemoryStation(tmp_path)
    watch = Watch(station, silence=0.05)

    async def run() -> None:
        task = asyncio.create_task(watch.run())
        await until(lambda: not watch.is_away)
        await until(lambda: watch.is_away)
        task.cancel()

    asyncio.run(run())


def test_a_slow_browser_loses_the_oldest_and_holds_up_nobody(tmp_path: Path) -> None:
    station = MemoryStation(tmp_path)
    watch = Watch(station)

    async def run() -> None:
        task = asyncio.create_task(watch.run())
        await until(lambda: not watch.is_away and bool(station.queues))
        with watch.listening() as queue:
            for _ in range(QUEUED + 50):
                station.tell(EventKind.READY)
            await until(queue.full)
            await until(lambda: all(one.empty() for one in station.queues))
            first = await queue.get()
            assert first is not None and first["number"] == 51
        assert watch.num_listeners == 0
        task.cancel()

    asyncio.run(run())


def test_a_stream_ends_with_its_session(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def act() -> None:
        site.users.remove("ole")
        site.station.tell(EventKind.READY)

    async def run() -> None:
        async with site.watching():
            found = await heard(site, 3, act)
        assert found[-1]["kind"] == "signed-out"

    asyncio.run(run())


def test_an_answer_streams_and_a_refusal_is_its_last_line(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def refused(result_id: str, question: str):  # type: ignore[no-untyped-def]
        yield "It "
        raise StationError("the inspector has gone", number=-90)

    async def run() -> None:
        site.station.answer = ("A ", HOSTILE, "\n")
        async with site.client("ole") as client:
            await client.post("/api/trigger", json={"part_id": "SN-1"})
            answer = await client.post("/api/results/r-000001/ask", json={"question": "Where?"})
            lines = [json.loads(line) for line in answer.text.splitlines()]
            assert lines == [{"piece": "A "}, {"piece": HOSTILE}, {"piece": "\n"}, {"end": True}]
            assert ("ask", "r-000001", "Where?") in site.station.calls
            site.station.ask = refused  # type: ignore[method-assign]
            answer = await client.post("/api/results/r-000001/ask", json={"question": "Where?"})
            lines = [json.loads(line) for line in answer.text.splitlines()]
            assert lines == [{"piece": "It "}, {"error": "the inspector has gone"}]
            for question in ("", "x" * 501):
                refusal = await client.post("/api/results/r-000001/ask", json={"question": question})
                assert refusal.status_code == 422

    asyncio.run(run())


def test_a_review_carries_the_user_of_the_session(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("ole") as client:
            await client.post("/api/trigger", json={"part_id": "SN-1"})
            path = "/api/results/r-000001/review"
            assert (await client.post(path, json={"decision": "OK", "note": "dust"})).json()["review"] == "OK"
            assert (await client.post(path, json={"decision": ""})).json()["review"] == ""
            assert (await client.post(path, json={"decision": "MAYBE"})).status_code == 422
            assert (await client.post(path, json={"decision": "OK", "user": "eva"})).status_code == 422
        assert [call[1:] for call in site.station.calls if call[0] == "review"] == [
            ("r-000001", "OK", "ole", "dust"),
            ("r-000001", "", "ole", ""),
        ]

    asyncio.run(run())


def test_a_good_part_is_enrolled_from_its_archived_photo(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("eva") as client:
            await client.post("/api/trigger", json={"part_id": f"SN {HOSTILE}"})
            added = await client.post("/api/references/from-result", json={"result_id": "r-000001"})
            assert added.status_code == 200 and added.json()["part"] == "lid-7"
            assert not set("<>") & set(added.json()["source"])
            photo = {"part": "lid-7", "reference_id": added.json()["reference_id"], "size": 240}
            assert (await client.get("/api/reference-photo", params=photo)).status_code == 200
            unknown = await client.post("/api/references/from-result", json={"result_id": "../x"})
            assert unknown.status_code == 404

    asyncio.run(run())
