"""Every fault ends in a verdict that is not OK, with the code that says which fault it was."""

import asyncio
import time

import pytest

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.results import Code, EventKind, JobRequest, ResultState
from judo_edge.station.states import State
from judo_edge.station.wire import LostError
from tests.station_parts import BAD, GOOD, Script, all_results, scripted_config, scripted_station, until


def judged(tmp_path, script, num_triggers=1, on_fault=Decision.NOT_DECIDABLE, **station):
    """Trigger some parts and return the results and what was told."""

    async def run():
        config = scripted_config(tmp_path, on_fault=on_fault.value, **station)
        told = []
        async with scripted_station(tmp_path, script, config) as running:
            listening = asyncio.create_task(collect(running, told))
            await asyncio.sleep(0)
            for number in range(num_triggers):
                await running.trigger(JobRequest(part_id=str(number)))
            await until(lambda: not running.flow.jobs.all())
            listening.cancel()
            return await all_results(running), told, running

    return asyncio.run(run())


async def collect(station, told):
    async for event in station.events():
        told.append(event)


@pytest.mark.parametrize("on_fault", [Decision.NOK, Decision.NOT_DECIDABLE])
@pytest.mark.parametrize(
    "outcome, code",
    [
        (GOOD.model_copy(update={"code": Code.REPLY_INVALID}), Code.REPLY_INVALID),
        (GOOD.model_copy(update={"code": Code.ENGINE_FAULT}), Code.ENGINE_FAULT),
        (GOOD.model_copy(update={"decision": Decision.NOT_DECIDABLE}), Code.INSPECTED),
        (StationError("the engine failed"), Code.ENGINE_FAULT),
        (LostError(), Code.INSPECTOR_LOST),
        (ValueError("a bug"), Code.INTERNAL),
    ],
)
def test_an_inspector_at_fault_is_never_ok(tmp_path, outcome, code, on_fault):
    ((result,), _, _) = judged(tmp_path, Script(outcomes=[outcome]), on_fault=on_fault)
    assert (result.decision, result.code) == (on_fault, code)
    assert result.reason


@pytest.mark.parametrize("code", [Code.CAMERA_UNPLUGGED, Code.CAMERA_TIMEOUT, Code.CAMERA_FROZEN, Code.CAMERA_STALE])
def test_a_camera_at_fault_says_its_code(tmp_path, code):
    script = Script(grab_faults=[StationError("the camera failed", number=-code)])
    ((result,), _, _) = judged(tmp_path, script)
    assert (result.decision, result.code, result.state) == (Decision.NOT_DECIDABLE, code, ResultState.FAILED)
    assert script.inspected == []


def test_a_camera_that_knows_no_code_or_has_gone(tmp_path):
    faults = [StationError("odd", number=-7), LostError()]
    (results, _, _) = judged(tmp_path, Script(grab_faults=faults), num_triggers=2)
    assert [one.code for one in results] == [Code.INTERNAL, Code.CAMERA_UNPLUGGED]


def test_the_deadline_gives_a_verdict_and_what_comes_later_is_kept_as_late(tmp_path):
    script = Script(outcomes=[GOOD], inspect_seconds=0.6)
    ((result,), told, station) = judged(tmp_path, script, deadline=0.2)
    assert (result.decision, result.code) == (Decision.NOT_DECIDABLE, Code.DEADLINE)
    assert result.total_seconds >= 0.2
    (late,) = [event.data for event in told if event.kind is EventKind.LATE]
    assert (late["job_id"], late["decision"]) == (result.job_id, "OK")
    assert station.tally.counters.late == 1
    kinds = [event.kind for event in told]
    assert kinds.index(EventKind.RESULT) < kinds.index(EventKind.LATE)


def test_late_verdicts_in_a_row_raise_a_condition_until_one_is_in_time(tmp_path):
    async def run():
        script = Script(outcomes=[GOOD], inspect_seconds=0.2)
        config = scripted_config(tmp_path, deadline=0.05, late_alarm=2)
        async with scripted_station(tmp_path, script, config) as station:
            for number in range(2):
                assert "late" not in names(station)
                await station.trigger(JobRequest(part_id=str(number)))
                await until(lambda: not station.flow.jobs.all())
            assert "late" in names(station)
            script.inspect_seconds = 0.0
            await station.trigger(JobRequest())
            await until(lambda: not station.flow.jobs.all())
            if (await all_results(station))[-1].code is Code.INSPECTED:
                assert "late" not in names(station)

    asyncio.run(run())


def names(station):
    return {one.name for one in station.conditions.all() if one.is_active}


def test_a_camera_that_never_answers_does_not_hold_the_verdict_and_is_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.hub.looking.GRAB_SLACK", 0.1)
    script = Script(grab_seconds=60)
    ((result,), _, _) = judged(tmp_path, script, deadline=0.2)
    assert result.code is Code.DEADLINE
    assert script.restarts == ["top"]


def test_a_photo_that_comes_when_nobody_waits_any_more_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.hub.looking.GRAB_SLACK", 0.05)

    async def run():
        script = Script(grab_seconds=0.6)
        async with scripted_station(tmp_path, script, scripted_config(tmp_path, deadline=0.1)) as station:
            removed, remove = [], station.flow.remove_spooled

            async def removing(name):
                await remove(name)
                removed.append(name)

            station.flow.remove_spooled = removing
            job = await station.trigger(JobRequest())
            await until(lambda: f"top-{job.job_id}.npy" in removed)
            assert list(station.spool.iterdir()) == []
            assert script.inspected == []

    asyncio.run(run())


def test_an_inspector_that_never_answers_is_given_up_and_started_again(tmp_path):
    async def run():
        script = Script(inspect_seconds=60)
        async with scripted_station(tmp_path, script, scripted_config(tmp_path, deadline=0.1), patience=0.3) as station:
            await station.trigger(JobRequest())
            await until(lambda: not station.flow.jobs.all())
            assert [one.code for one in await all_results(station)] == [Code.DEADLINE]
            assert script.restarts == ["inspector"]
            assert station.machine.state is State.ERROR

    asyncio.run(run())


def test_an_inspector_that_prepares_meanwhile_is_not_given_up(tmp_path):
    async def run():
        script = Script(outcomes=[GOOD], inspect_seconds=0.6)
        async with scripted_station(tmp_path, script, scripted_config(tmp_path, deadline=0.1), patience=0.1) as station:
            with station.crew.judge_is_busy():
                await station.trigger(JobRequest())
                await until(lambda: not station.flow.jobs.all())
            assert [one.code for one in await all_results(station)] == [Code.DEADLINE]
            assert script.restarts == []
            assert station.machine.state is State.READY

    asyncio.run(run())


def test_more_parts_than_may_wait_are_overruns_and_none_is_dropped(tmp_path):
    script = Script(outcomes=[GOOD], inspect_seconds=0.05)
    (results, _, station) = judged(tmp_path, script, num_triggers=30, max_waiting=3)
    assert len(results) == 30
    codes = {one.code for one in results}
    assert Code.OVERRUN in codes and codes <= {Code.OVERRUN, Code.INSPECTED}
    assert station.tally.counters.triggers == 30


def test_ok_is_held_back_by_a_gate_and_nok_is_not(tmp_path):
    class Closed:
        def allows_ok(self, recipe):
            return "the challenge parts have not passed"

        def state(self, external_id):
            return "pending"

    async def run():
        async with scripted_station(tmp_path, Script(outcomes=[GOOD, BAD]), gates=[Closed()]) as station:
            assert (await station.status()).challenge == {"lid": "pending"}
            for _ in range(2):
                await station.trigger(JobRequest())
            challenge = await station.judge(JobRequest(path=str(tmp_path / "bad.png"), part_id="master"))
            await until(lambda: not station.flow.jobs.all())
            results = {one.job_id: one for one in await all_results(station)}
            assert results.pop(challenge.job_id).decision is Decision.OK
            assert (challenge.code, challenge.is_simulated, challenge.origin) == (Code.INSPECTED, True, "challenge")
            found = [(one.decision, one.code) for one in results.values()]
            assert sorted(found) == [(Decision.NOK, Code.INSPECTED), (Decision.NOT_DECIDABLE, Code.CHALLENGE_PENDING)]
            assert station.tally.counters.triggers == 2

    asyncio.run(run())


def test_a_gate_with_a_bug_lets_nothing_through(tmp_path):
    class Broken:
        def allows_ok(self, recipe):
            raise RuntimeError("a bug")

        def state(self, external_id):
            return "passed"

    async def run():
        async with scripted_station(tmp_path, Script(outcomes=[GOOD]), gates=[Broken()]) as station:
            await station.trigger(JobRequest())
            await until(lambda: not station.flow.jobs.all())
            (result,) = await all_results(station)
            assert (result.decision, result.code) == (Decision.NOT_DECIDABLE, Code.INTERNAL)

    asyncio.run(run())


def test_watchers_see_results_and_their_bugs_stay_theirs(tmp_path):
    class Watching:
        def __init__(self):
            self.seen = []

        async def on_result(self, result, recipe):
            self.seen.append((result.number, recipe.external_id))
            raise RuntimeError("a bug")

    async def run():
        watcher = Watching()
        async with scripted_station(tmp_path, watchers=[watcher]) as station:
            for _ in range(3):
                await station.trigger(JobRequest())
            await until(lambda: len(watcher.seen) == 3)
            assert watcher.seen == [(1, "lid"), (2, "lid"), (3, "lid")]

    asyncio.run(run())


def test_jumps_of_the_time_of_day_change_no_deadline(tmp_path, monkeypatch):
    days = iter(range(1, 1000))

    def jumping():
        return f"2{next(days):03d}-01-01T00:00:00.000000+00:00"

    for module in ("accepting", "flow", "verdicts", "events", "conditions"):
        monkeypatch.setattr(f"judo_edge.station.hub.{module}.utc_now", jumping)
    monkeypatch.setattr(time, "time", lambda: 1e10 * (next(days) % 2))
    script = Script(outcomes=[GOOD], inspect_seconds=0.3)
    (results, _, _) = judged(tmp_path, script, num_triggers=2, deadline=0.45)
    assert [one.code for one in results] == [Code.INSPECTED, Code.DEADLINE]
    assert all(0.2 < one.total_seconds < 30 for one in results)
