"""A real hub process, killed again and again in the middle of triggers: no job is lost, none is judged twice."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.client import StationClient
from judo_edge.station.results import Code, EventKind, JobRequest, Result
from judo_edge.station.states import State
from tests.station_parts import BAD, GOOD, WAIT, Script, all_results, scripted_config, wired_workers

ROUNDS = 4
HUB = """
import asyncio, pathlib, sys
from judo_edge.station.processes.hub import run_hub
from tests.station_parts import scripted_config
folder = pathlib.Path(sys.argv[1])
asyncio.run(run_hub(scripted_config(folder, deadline=2.0), folder / "run"))
"""


@contextmanager
def hub(folder):
    process = subprocess.Popen([sys.executable, "-c", HUB, str(folder)])
    try:
        yield process
    finally:
        process.kill()
        process.wait(WAIT)


async def ready(folder):
    """Wait until the hub answers and is Ready."""
    end = time.monotonic() + 2 * WAIT
    while time.monotonic() < end:
        try:
            async with StationClient(folder / "run" / "hub.sock", "test") as client:
                if (await client.status()).state is State.READY:
                    return
        except StationError:
            pass
        await asyncio.sleep(0.02)
    raise AssertionError("the hub did not become ready")


async def trigger_until_lost(folder, keys, accepted):
    """Trigger new parts, and again those whose answer was lost, until the hub is gone."""
    async with StationClient(folder / "run" / "hub.sock", "test") as client:
        try:
            while True:
                if not keys or keys[-1] in accepted:
                    keys.append(f"part-{len(keys)}")
                accepted[keys[-1]] = (await client.trigger(JobRequest(key=keys[-1], part_id=keys[-1]))).job_id
        except StationError:
            return


async def listen(folder, told):
    async with StationClient(folder / "run" / "hub.sock", "test") as client:
        try:
            async for event in client.events():
                if event.kind is EventKind.RESULT:
                    told.append(Result.model_validate(event.data))
        except StationError:
            return


async def killed_again_and_again(folder):
    chance = random.Random(5)
    script = Script(outcomes=[GOOD, BAD], inspect_seconds=0.02)
    keys, accepted, told = [], {}, []
    async with wired_workers(scripted_config(folder), script, folder / "run"):
        for round_ in range(ROUNDS):
            with hub(folder) as process:
                await ready(folder)
                listening = asyncio.create_task(listen(folder, told))
                lanes = [
                    asyncio.create_task(trigger_until_lost(folder, mine, accepted))
                    for mine in (keys, others(keys, round_))
                ]
                await asyncio.sleep(0.2 + chance.random() * 0.4)
                process.send_signal(signal.SIGKILL)
                await asyncio.wait_for(asyncio.gather(listening, *lanes), WAIT)
        with hub(folder) as process:
            await ready(folder)
            async with StationClient(folder / "run" / "hub.sock", "test") as client:
                results = await all_results(client)
                while len(results) < len(accepted):
                    await asyncio.sleep(0.05)
                    results = await all_results(client)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, WAIT) == 0
    return accepted, told, results


def others(keys, round_):
    """A second caller's keys."""
    return [f"lane-{round_}"]


def test_a_hub_that_is_killed_loses_no_accepted_job_and_judges_none_twice(tmp_path):
    accepted, told, results = asyncio.run(killed_again_and_again(tmp_path))
    by_job = {one.job_id: one for one in results}
    assert len(by_job) == len(results)
    assert [one.number for one in results] == list(range(1, len(results) + 1))
    assert set(accepted.values()) <= set(by_job)
    assert len(accepted) > ROUNDS
    for one in told:
        assert by_job[one.job_id].model_dump(exclude={"photo", "mask_file"}) == one.model_dump(
            exclude={"photo", "mask_file"}
        )
    assert {one.code for one in results if one.decision is Decision.OK} == {Code.INSPECTED}
    assert Code.RESTARTED in {one.code for one in results}
    part_ids = [one.part_id for one in results]
    assert len(set(part_ids)) == len(part_ids)


def test_a_hub_that_is_stopped_gives_every_accepted_job_its_verdict(tmp_path):
    async def run():
        script = Script(outcomes=[GOOD], inspect_seconds=0.1)
        async with wired_workers(scripted_config(tmp_path), script, tmp_path / "run"):
            with hub(tmp_path) as process:
                await ready(tmp_path)
                async with StationClient(tmp_path / "run" / "hub.sock", "test") as client:
                    jobs = [await client.trigger(JobRequest(part_id=str(number))) for number in range(5)]
                    process.send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(process.wait, WAIT) == 0
            assert not (tmp_path / "data" / "ledger.sqlite-wal").exists()
            with hub(tmp_path):
                await ready(tmp_path)
                async with StationClient(tmp_path / "run" / "hub.sock", "test") as client:
                    results = {one.job_id: one for one in await all_results(client)}
            assert set(results) == {job.job_id for job in jobs}
            assert {one.code for one in results.values()} <= {Code.INSPECTED, Code.ABORTED}
            assert Code.INSPECTED in {one.code for one in results.values()}

    asyncio.run(run())
