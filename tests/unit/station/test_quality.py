"""Challenge parts, drift and retention in a real hub over a real ledger, with an inspector that reads its verdicts."""

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from judo_edge.core import Decision
from judo_edge.station import quality as quality_module
from judo_edge.station.archiverows import ArchiveRows
from judo_edge.station.config import (
    ChallengeTable,
    DriftTable,
    RecipeTable,
    RetentionTable,
    StationConfig,
    StationTable,
)
from judo_edge.station.hub.station import Station
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.quality import Quality
from judo_edge.station.results import Code, JobRequest, Recipe, ResultQuery
from judo_edge.station.states import State
from judo_edge.station.workers import Kept, Outcome

PATIENCE = 30


class Judge:
    """An inspector that finds in each file what it is to say, and a score."""

    def __init__(self, archive):
        self.archive, self.version = archive, "a" * 32

    async def prepare(self, external_id, internal_id):
        return Recipe(
            external_id=external_id, internal_id=internal_id or self.version, part=external_id, bundle="b",
            bundle_digest="", references_digest="", reference_ids=(),
        )  # fmt: skip

    async def unprepare(self, internal_id):
        return None

    async def inspect(self, job_id, internal_id, spooled):
        decision, _, score = Path(spooled.path).read_text().partition(" ")
        yield Outcome(decision=Decision(decision), code=Code.INSPECTED, reason="", score=float(score or 0))

    async def keep(self, job_id, result_id, decision):
        folder = self.archive / "2026-11-25" / decision.value
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{result_id}.jpg").write_bytes(b"x" * 1000)
        return Kept(photo=f"2026-11-25/{decision.value}/{result_id}.jpg", num_bytes=1_000_000)

    async def close(self):
        return None


class Line:
    """A station that is ready, its inspector and its files."""

    def __init__(self, station, judge, folder):
        self.station, self.judge, self.folder = station, judge, folder

    async def part(self, says):
        (self.folder / "part.txt").write_text(says)
        job = await self.station.trigger(JobRequest(path=str(self.folder / "part.txt")))
        (result,) = await until_async(lambda: self.station.results(ResultQuery(job_id=job.job_id)))
        return result

    def conditions(self):
        return {one.name: one.text for one in self.station.conditions.all() if one.is_active}


async def until(is_so):
    end = time.monotonic() + PATIENCE
    while not (found := is_so()):
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.01)
    return found


async def until_async(ask):
    end = time.monotonic() + PATIENCE
    while not (found := await ask()):
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.01)
    return found


@contextlib.asynccontextmanager
async def line(folder, **tables):
    config = StationConfig(
        station=StationTable(name="line-1", deadline=10), recipes=(RecipeTable(id="lid", bundle="b"),), folder=folder,
        **tables,
    )  # fmt: skip
    ledger = Ledger(config.data, 1 << 20)
    station = Station(config, ledger, folder / "run")
    quality = Quality(station)
    await station.start()
    quality.start()
    judge = Judge(config.data / "archive")
    try:
        station.crew.join_judge(judge)
        await until(lambda: station.machine.state is State.READY)
        yield Line(station, judge, folder)
    finally:
        await quality.close()
        await station.close()


def master(folder, name, says):
    path = folder / "masters" / "lid" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(says)


def test_no_ok_before_the_challenge_parts_pass(tmp_path):
    master(tmp_path, "fail/scratch.png", "OK")
    master(tmp_path, "pass/good.png", "OK")

    async def run():
        async with line(tmp_path) as one:
            await until(lambda: "challenge.lid" in one.conditions())
            held = await one.part("OK")
            assert (held.decision, held.code) == (Decision.NOT_DECIDABLE, Code.CHALLENGE_PENDING)
            assert (await one.part("NOK")).decision is Decision.NOK
            master(tmp_path, "fail/scratch.png", "NOK")
            await one.station.challenge("lid")
            await until(lambda: one.station.current_status().challenge == {"lid": "passed"})
            assert (await one.part("OK")).decision is Decision.OK
            assert "challenge.lid" not in one.conditions()
            one.judge.version = "b" * 32
            await one.station.prepare("lid")
            await until(lambda: one.station.current_status().challenge == {"lid": "passed"})
            results = await one.station.results(ResultQuery(limit=100))
            judged = [
                (found.internal_recipe_id[0], found.is_simulated) for found in results if found.origin == "challenge"
            ]
            assert judged == [("a", True)] * 4 + [("b", True)] * 2

    asyncio.run(run())


def test_a_recipe_without_challenge_parts_says_ok_at_once(tmp_path):
    async def run():
        async with line(tmp_path) as one:
            assert (await one.part("OK")).decision is Decision.OK
            assert one.station.current_status().challenge == {"lid": "none"}
        async with line(tmp_path, challenge=ChallengeTable(is_required=True)) as one:
            assert (await one.part("OK")).code is Code.CHALLENGE_PENDING

    asyncio.run(run())


def test_drift_is_a_condition(tmp_path):
    async def run():
        async with line(tmp_path, drift=DriftTable(window=20)) as one:
            for number in range(20):
                await one.part(f"OK {number}")
            for number in range(20):
                await one.part(f"OK {100 + number}")
            await until(lambda: "drift.lid" in one.conditions())
            assert "median 109.5, was 9.5" in one.conditions()["drift.lid"]

    asyncio.run(run())


def test_photos_go_and_rows_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(quality_module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(quality_module, "BUSY_SECONDS", 0.01)

    async def run():
        retention = RetentionTable(max_megabytes=3, keep_free_megabytes=0)
        async with line(tmp_path, retention=retention) as one:
            nok, reviewed = await one.part("NOK"), await one.part("OK")
            await one.station.review(reviewed.result_id, "OK", "eva")
            good = [await one.part("OK") for _ in range(6)]

            async def files_of(result):
                return (await one.station.result(result.result_id)).photo

            archive = tmp_path / "station-data" / "archive"
            await until(lambda: len(list(archive.rglob("*.jpg"))) == 3)
            await until_async(lambda: _settled(one, 3))
            assert await files_of(nok)
            assert await files_of(reviewed)
            assert [bool(await files_of(result)) for result in good] == [False] * 5 + [True]
            assert len(await one.station.results(ResultQuery(limit=100))) == 8
            assert "photos of good parts go after" in await until(lambda: one.conditions().get("archive"))

    async def _settled(one, num_files):
        results = await one.station.results(ResultQuery(limit=100))
        return sum(bool(result.photo) for result in results) == num_files

    asyncio.run(run())


def test_rows_are_found_by_their_index(tmp_path):
    Ledger(tmp_path, 1 << 20).close()
    rows = ArchiveRows(tmp_path / "ledger.sqlite", lambda ids: None)
    try:
        from judo_edge.station.archiverows import _OLDEST, _TOTAL

        for statement, values in ((_OLDEST, ("OK", False, 20)), (_TOTAL, ())):
            plan = " ".join(row[3] for row in rows._connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))
            assert "evidence_held" in plan
            assert "TEMP B-TREE FOR ORDER BY" not in plan.replace("CORRELATED SCALAR SUBQUERY", "")
        assert rows.known(["2026-11-25/OK/none.jpg"]) == frozenset()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            rows._connection.execute("DELETE FROM evidence")
    finally:
        rows.close()
