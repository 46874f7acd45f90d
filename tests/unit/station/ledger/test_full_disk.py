"""A full disk: the reserve is given up for verdicts, and what cannot be written is not told."""

import asyncio
import contextlib
import os

import pytest

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.config import RetentionTable
from judo_edge.station.ledger.ledger import RESERVE_NAME
from judo_edge.station.ledger.reserve import Reserve
from judo_edge.station.results import Code, EventKind, JobRequest
from judo_edge.station.states import State
from tests.disks import small_disk
from tests.station_parts import GOOD, Script, all_results, scripted_config, scripted_station, until

DISK = 24 << 20


def fill(disk):
    """Fill a disk; returns the file that does it."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as stream, contextlib.suppress(OSError):
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize) > 0:
            stream.write(b"x" * min(free, 1 << 16))
    return path


def test_the_reserve_is_really_written(tmp_path):
    reserve = Reserve(tmp_path / "reserve", 3_000_000)
    assert not reserve.is_held
    assert reserve.make()
    assert (tmp_path / "reserve").stat().st_size == 3_000_000
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 3_000_000
    reserve.release()
    assert not reserve.is_held


def test_the_reserve_is_not_made_where_it_would_fill_the_disk(tmp_path):
    with small_disk(tmp_path, 4 << 20) as disk:
        reserve = Reserve(disk / "reserve", 3 << 20)
        assert not reserve.make()
        assert list(disk.iterdir()) == []


def test_verdicts_go_on_in_the_reserve_and_it_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.hub.steward.RESERVE_SECONDS", 0.05)

    script = Script(outcomes=[GOOD.model_copy(update={"reply": "x" * 20_000})])  # so that few parts fill what is left

    async def run(disk):
        config = scripted_config(disk).model_copy(update={"retention": RetentionTable(reserve_megabytes=4)})
        async with scripted_station(disk, script, config, run_folder=tmp_path / "run") as station:
            assert (config.data / RESERVE_NAME).exists()
            filler = fill(disk)
            number = 0
            while (config.data / RESERVE_NAME).exists():
                number += 1
                await station.trigger(JobRequest(part_id=f"part-{number}"))
                await until(lambda: not station.flow.jobs.all())
            await until(lambda: "disk" in names(station))
            assert station.machine.state is State.READY
            assert len(await all_results(station)) == number
            filler.unlink()
            await until(lambda: (config.data / RESERVE_NAME).exists())
            await until(lambda: not any(one.name == "disk" and one.is_active for one in station.conditions.all()))

    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", DISK) as disk:
        asyncio.run(run(disk))


def names(station):
    return {one.name for one in station.conditions.all() if one.is_active}


def test_a_disk_that_takes_nothing_refuses_triggers_and_holds_verdicts_back(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.hub.steward.RESERVE_SECONDS", 0.1)
    script = Script(inspect_seconds=0.5)

    async def run(disk):
        config = scripted_config(disk)
        async with scripted_station(disk, script, config, run_folder=tmp_path / "run") as station:
            told = []
            listening = asyncio.create_task(collect(station, told))
            jobs = [await station.trigger(JobRequest(part_id="part")) for _ in range(3)]
            (config.data / RESERVE_NAME).unlink()
            filler = fill(disk)
            await until(lambda: station.machine.state is State.ERROR)
            with pytest.raises(StationError):
                await station.trigger(JobRequest())
            stored = {one.job_id for one in await all_results(station)}
            assert {one["job_id"] for one in told} <= stored
            assert len(stored) < 3
            filler.unlink()
            await until(lambda: station.machine.state is State.READY)
            await until(lambda: len(told) == 3)
            results = await all_results(station)
            assert sorted(one.job_id for one in results) == sorted(job.job_id for job in jobs)
            assert all(one.decision is not Decision.OK or one.code is Code.INSPECTED for one in results)
            listening.cancel()

    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", DISK) as disk:
        asyncio.run(run(disk))


async def collect(station, told):
    async for event in station.events():
        if event.kind is EventKind.RESULT:
            told.append(event.data)
