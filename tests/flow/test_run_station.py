"""A real station under its real supervisor: hub, camera and folder for real, the inspector scripted."""

import asyncio
import os
import signal
import time

import pytest
from PIL import Image

from judo_edge.core import Decision
from judo_edge.station.results import Code, JobRequest
from tests.chaos.control import read_truth
from tests.chaos.parts import photo
from tests.chaos.station import ChaosStation, processes_of


@pytest.fixture
def station(tmp_path):
    found = ChaosStation(tmp_path, deadline=10.0)
    found.start()
    yield found
    if found.supervisor.poll() is None:
        found.kill()
    assert_gone(found)


def assert_gone(station):
    end = time.monotonic() + 20
    while left := processes_of(station.run_folder):
        assert time.monotonic() < end, f"{left} still run"
        time.sleep(0.05)


def drop(station, name, is_bad):
    beside = station.inbox / f".{name}"
    Image.fromarray(photo(is_bad, 1)).save(beside, "PNG")
    beside.rename(station.inbox / name)


def test_photos_and_triggers_become_one_result_each_and_a_stop_is_clean(station):
    async def use():
        drop(station, "early.png", is_bad=True)
        await station.until_ready()  # which it is only with all cameras
        drop(station, "good.png", is_bad=False)
        (station.inbox / "broken.png").write_bytes(b"this is no photo")
        jobs = [await station.client.trigger(JobRequest(camera="top", part_id=f"t{n}", key=f"k{n}")) for n in range(5)]
        again = await station.client.trigger(JobRequest(camera="top", part_id="t0", key="k0"))
        assert again.job_id == jobs[0].job_id
        await station.until(lambda status: status.last_number == 8 and not status.num_waiting)
        results = await station.all_results()
        await station.client.close()
        return results

    results = asyncio.run(use())
    assert [result.number for result in results] == list(range(1, 9))
    by_part = {result.part_id: result for result in results}
    assert len(by_part) == 8
    assert (by_part["early"].decision, by_part["good"].decision) == (Decision.NOK, Decision.OK)
    assert by_part["broken"].decision is Decision.NOT_DECIDABLE
    assert by_part["broken"].code is Code.PHOTO_UNREADABLE
    truth = {one["job_id"]: one["kind"] for one in read_truth(station.run_folder)}
    for part, result in by_part.items():
        if part.startswith("t"):
            assert result.job_id in truth, result
            assert result.decision is (Decision.OK if truth[result.job_id] == "good" else Decision.NOK)
    assert sorted(path.name for path in (station.inbox / "done").iterdir()) == ["early.png", "good.png"]
    running = station.log.read_text()
    assert station.stop() == 0
    assert_gone(station)
    assert " ERROR " not in station.log.read_text().removeprefix(running), "a clean stop is told as an error"
    assert not list((station.run_folder / "spool").iterdir())


def test_every_process_comes_back_when_it_is_killed(station):
    async def use():
        await station.until_ready()
        for name in ("hub", "inspector", "camera.top"):
            await station.until(lambda status: {one.state for one in status.processes} == {"ready"})
            pid = await station.pid(name)
            os.kill(pid, signal.SIGKILL)
            await station.until(
                lambda status, name=name, pid=pid: any(
                    one.name == name and one.state == "ready" and one.pid != pid for one in status.processes
                )
            )
            await station.until_ready()
            job = await station.client.trigger(JobRequest(camera="top", key=name))
            await station.until(lambda status: not status.num_waiting)
            result = next(one for one in await station.all_results() if one.job_id == job.job_id)
            assert result.code is Code.INSPECTED
        await station.client.close()

    asyncio.run(use())
    assert station.stop() == 0


def test_a_killed_supervisor_takes_all_with_it_and_the_next_one_goes_on(station):
    async def use():
        await station.until_ready()
        job = await station.client.trigger(JobRequest(camera="top", key="one"))
        station.kill()
        assert_gone(station)
        station.start()
        await station.until_ready()
        again = await station.client.trigger(JobRequest(camera="top", key="one"))
        await station.until(lambda status: not status.num_waiting)
        results = await station.all_results()
        await station.client.close()
        return job, again, results

    job, again, results = asyncio.run(use())
    assert again.job_id == job.job_id
    assert [result.job_id for result in results] == [job.job_id]
    assert station.stop() == 0


def test_a_second_supervisor_is_refused(station, tmp_path):
    async def ready():
        await station.until_ready()
        await station.client.close()

    asyncio.run(ready())
    other = ChaosStation(tmp_path)
    other.start()
    assert other.supervisor.wait(60) == 1
    assert "runs already" in station.log.read_text()
    assert station.stop() == 0
