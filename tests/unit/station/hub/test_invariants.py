"""Hundreds of triggers at once, random faults: every trigger has exactly one durable verdict, none is OK by fault."""

import asyncio
import random

import pytest

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.results import Code, EventKind, JobRequest
from judo_edge.station.states import State
from judo_edge.station.wire import LostError
from tests.station_parts import (
    BAD,
    GOOD,
    Script,
    all_results,
    scripted_config,
    scripted_station,
    scripted_workers,
    until,
)

NUM_TRIGGERS = 300


def random_script(chance):
    """A script of good and bad parts and of every fault that workers have."""
    faults = [StationError("camera", number=-code) for code in (120, 121, 122, 123)] + [LostError()]
    outcomes = [GOOD, GOOD, GOOD, BAD, GOOD.model_copy(update={"code": Code.REPLY_INVALID}), ValueError("a bug")]
    outcomes += [StationError("the engine failed"), LostError()]
    return Script(
        outcomes=[chance.choice(outcomes) for _ in range(101)],
        grab_faults=[chance.choice(faults) if chance.random() < 0.1 else None for _ in range(103)],
        inspect_seconds=0.002,
    )


@pytest.mark.parametrize("seed", range(4))
def test_every_trigger_has_exactly_one_durable_verdict(tmp_path, seed):
    chance = random.Random(seed)

    async def run():
        script = random_script(chance)
        config = scripted_config(tmp_path, deadline=0.5, max_waiting=chance.choice([2, 8, 200]))
        async with scripted_station(tmp_path, script, config, patience=5.0) as station:
            told, accepted, refused = [], [], []
            listening = asyncio.create_task(collect(station, told))
            upsetting = asyncio.create_task(upset(station, config, script, tmp_path, chance))
            calls = [some_calls(station, chance.randrange(10**9), accepted, refused) for _ in range(10)]
            await asyncio.gather(*calls)
            upsetting.cancel()
            await asyncio.gather(upsetting, return_exceptions=True)
            await until(lambda: not station.flow.jobs.all())
            check(await all_results(station), told, accepted)
            counters = (await station.status()).counters
            assert len(accepted) + len(refused) == NUM_TRIGGERS
            assert (counters.triggers, counters.refused) == (len(set(accepted)), len(refused))
            assert counters.ok + counters.nok + counters.not_decidable == counters.triggers
            listening.cancel()
            return [one.job_id for one in told]

    told = asyncio.run(run())

    async def reopen():
        async with scripted_station(tmp_path, is_ready=False) as station:
            assert [one.job_id for one in await all_results(station)] == told
            assert station.tally.counters.triggers == len(told)

    asyncio.run(reopen())


def check(results, told, accepted):
    assert sorted(one.job_id for one in results) == sorted(set(accepted))
    assert [one.number for one in results] == list(range(1, len(results) + 1))
    assert [(one.number, one.job_id, one.decision) for one in told] == [
        (one.number, one.job_id, one.decision) for one in results
    ]
    assert all(one.code is Code.INSPECTED for one in results if one.decision is Decision.OK)
    assert all(one.reason for one in results)


async def some_calls(station, seed, accepted, refused):
    """Trigger in a row; a few keys are used twice, and some callers hang up."""
    chance = random.Random(seed)
    for number in range(NUM_TRIGGERS // 10):
        key = f"{seed}-{number}"
        try:
            job = await station.trigger(JobRequest(key=key, part_id=key, origin="opcua"))
            accepted.append(job.job_id)
            if chance.random() < 0.2:
                assert (await station.trigger(JobRequest(key=key))).job_id == job.job_id
        except StationError:
            refused.append(key)
        await asyncio.sleep(chance.random() * 0.02)


async def upset(station, config, script, folder, chance):
    """Take workers away and bring new ones, again and again."""
    while True:
        await asyncio.sleep(chance.random() * 0.08)
        judge, eyes = scripted_workers(config, script, folder / "run")
        what = chance.randrange(4)
        if what == 0 and station.crew.judge:
            station.crew.leave_judge(station.crew.judge)
        elif what == 1:
            station.crew.camera_state("top", Code.CAMERA_FROZEN, "frozen")
        await asyncio.sleep(chance.random() * 0.03)
        if station.crew.judge is None or what == 2:
            station.crew.join_judge(judge)
        station.crew.join_eye("top", eyes["top"])


async def collect(station, told):
    from judo_edge.station.results import Result

    async for event in station.events():
        if event.kind is EventKind.RESULT:
            told.append(Result.model_validate(event.data))


def test_a_slow_listener_loses_the_oldest_and_sees_the_gap(tmp_path):
    async def run():
        async with scripted_station(tmp_path) as station:
            events = station.events()
            first = station.broadcaster
            for number in range(1500):
                first.publish(EventKind.MISSED, {"count": number})
            got = [await anext(events) for _ in range(1000)]
            assert [one.data["count"] for one in got] == list(range(500, 1500))
            numbers = [one.number for one in got]
            assert numbers == list(range(numbers[0], numbers[0] + 1000))
            assert numbers[0] > 500
            assert station.machine.state is State.READY

    asyncio.run(run())
