"""What may trigger in which state, keys that are one job, parts that a camera sees by itself, pipelining."""

import asyncio

import pytest

from judo_edge.core import Decision
from judo_edge.errors import InputError, StationError
from judo_edge.station.results import Code, EventKind, JobRequest
from judo_edge.station.states import State
from judo_edge.station.workers import Spooled
from tests.station_parts import GOOD, Script, all_results, scripted_config, scripted_station, until


def run_in(tmp_path, use, script=None, **station):
    async def run():
        async with scripted_station(tmp_path, script, scripted_config(tmp_path, **station)) as running:
            return await use(running)

    return asyncio.run(run())


async def settled(station):
    await until(lambda: not station.flow.jobs.all())
    return await all_results(station)


def test_the_next_job_may_start_while_the_one_before_is_inspected(tmp_path):
    async def use(station):
        for number in range(3):
            await station.start_single(JobRequest(part_id=str(number)))
            await until(lambda: station.machine.state is State.READY)
        assert len(station.flow.jobs.undecided()) >= 2
        assert [one.part_id for one in await settled(station)] == ["0", "1", "2"]

    run_in(tmp_path, use, Script(outcomes=[GOOD], inspect_seconds=0.3))


def test_a_second_single_job_is_refused_while_the_photo_is_taken(tmp_path):
    async def use(station):
        await station.start_single(JobRequest())
        assert station.machine.state is State.SINGLE_EXECUTION
        for start in (station.start_single, station.trigger):
            with pytest.raises(StationError, match="SingleExecution"):
                await start(JobRequest(origin="opcua"))
        assert station.tally.counters.refused == 2
        await until(lambda: station.machine.state is State.READY)
        (result,) = await settled(station)
        assert result.code is Code.INSPECTED

    run_in(tmp_path, use, Script(grab_seconds=0.3))


def test_the_same_key_is_the_same_job_also_at_the_same_time_and_after_a_restart(tmp_path):
    async def first(station):
        jobs = await asyncio.gather(*(station.trigger(JobRequest(key="plc-1")) for _ in range(20)))
        assert len({job.job_id for job in jobs}) == 1
        single = await station.start_single(JobRequest(key="plc-2"))
        assert (await station.start_single(JobRequest(key="plc-2"))).job_id == single.job_id
        assert len(await settled(station)) == 2
        return jobs[0].job_id

    async def second(station):
        again = await station.trigger(JobRequest(key="plc-1"))
        assert len(await settled(station)) == 2
        return again.job_id

    assert run_in(tmp_path, first) == run_in(tmp_path, second)


def test_a_caller_that_hangs_up_changes_nothing(tmp_path):
    async def use(station):
        calls = [asyncio.create_task(station.trigger(JobRequest(part_id=str(number)))) for number in range(8)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: station.tally.counters.triggers == 8)
        assert len(await settled(station)) == 8

    run_in(tmp_path, use)


def test_a_run_gives_its_triggers_what_they_leave_open(tmp_path):
    async def use(station):
        run = await station.start_continuous(JobRequest(meas_id="shift-3", product_id="box", is_simulated=True))
        assert station.machine.state is State.CONTINUOUS_EXECUTION
        for number in range(3):
            await station.trigger(JobRequest(part_id=str(number)))
        with pytest.raises(StationError):
            await station.start_single(JobRequest())
        await station.stop(0, "shift over")
        assert station.machine.state is State.READY
        results = await settled(station)
        assert {(one.meas_id, one.product_id, one.is_simulated, one.code) for one in results} == {
            ("shift-3", "box", True, Code.INSPECTED)
        }
        assert run.job_id not in {one.job_id for one in results}

    run_in(tmp_path, use)


def test_abort_gives_waiting_jobs_their_verdict_at_once(tmp_path):
    async def use(station):
        await station.start_continuous(JobRequest())
        for _ in range(3):
            await station.trigger(JobRequest())
        await station.abort(0, "jam")
        await until(lambda: station.tally.last_number == 3)
        assert {(one.code, one.reason) for one in await all_results(station)} == {(Code.ABORTED, "aborted: jam")}

    run_in(tmp_path, use, Script(inspect_seconds=0.3))


@pytest.mark.parametrize("method, state", [("halt", State.HALTED), ("reset", State.PREOPERATIONAL)])
def test_halt_and_reset_abort_and_stay_until_somebody_asks(tmp_path, method, state):
    async def use(station):
        await station.trigger(JobRequest())
        await getattr(station, method)(1, "door")
        assert station.machine.state is state
        (result,) = await settled(station)
        assert result.code is Code.ABORTED
        with pytest.raises(StationError, match=state.value):
            await station.trigger(JobRequest())
        if state is State.HALTED:
            await station.reset(0, "")
        await station.select_automatic()
        assert station.machine.state is State.INITIALIZED
        assert (await station.status()).recipes == ()
        await station.prepare("lid")
        assert station.machine.state is State.READY

    run_in(tmp_path, use, Script(inspect_seconds=0.2))


def test_parts_that_a_camera_saw_get_a_verdict_in_any_state(tmp_path):
    async def use(station):
        eye = station.crew.eye("top")
        ready = await station.frame("top", eye.spooled("a.npy", part_id="sn-1"), 0)
        assert (await station.frame("top", eye.spooled("b.npy"), 0)).job_id != ready.job_id
        await settled(station)
        await station.halt(0, "")
        passed = await station.frame("top", eye.spooled("c.npy"), 0)
        results = {one.job_id: one for one in await settled(station)}
        assert (results[ready.job_id].part_id, results[ready.job_id].code) == ("sn-1", Code.INSPECTED)
        assert (results[passed.job_id].code, results[passed.job_id].decision) == (
            Code.NOT_READY,
            Decision.NOT_DECIDABLE,
        )
        assert station.tally.counters.refused == 0
        await until(lambda: list(station.spool.iterdir()) == [])

    run_in(tmp_path, use, Script(outcomes=[GOOD]))


def test_a_frame_that_is_offered_again_is_the_same_job(tmp_path):
    async def use(station):
        spooled = station.crew.eye("top").spooled("a.npy")
        jobs = await asyncio.gather(*(station.frame("top", spooled, 2) for _ in range(5)))
        jobs.append(await station.frame("top", spooled, 2))
        assert len({job.job_id for job in jobs}) == 1
        results = await settled(station)
        assert [one.code for one in results] == [Code.FRAME_MISSED, Code.FRAME_MISSED, Code.INSPECTED]
        assert station.tally.counters.missed == 2
        assert results[-1].missed_before == 2

    run_in(tmp_path, use)


@pytest.mark.parametrize(
    "request_, number", [({"recipe": "unknown"}, -11), ({"recipe": "base"}, -12), ({"camera": "side"}, -13)]
)
def test_a_trigger_that_cannot_be_is_refused_and_counted(tmp_path, request_, number):
    async def use(station):
        told = station.events()
        with pytest.raises(StationError) as caught:
            await station.trigger(JobRequest(origin="tags", **request_))
        assert caught.value.number == number
        async for event in told:
            if event.kind is EventKind.MISSED:
                assert event.data["origin"] == "tags"
                break
        assert station.tally.counters.refused == 1
        assert await settled(station) == []
        await station.trigger(JobRequest())
        assert (await settled(station))[0].missed_before == 1

    run_in(tmp_path, use)


def test_nobody_passes_by_the_gates_as_a_challenge_part(tmp_path):
    async def use(station):
        for start in (station.trigger, station.start_single):
            with pytest.raises(InputError, match="challenge"):
                await start(JobRequest(origin="challenge", path="/photo.png"))
        with pytest.raises(InputError, match="photo"):
            await station.judge(JobRequest())
        assert await settled(station) == []
        assert station.machine.state is State.READY

    run_in(tmp_path, use)


def test_photos_under_way_are_removed_after_they_were_kept(tmp_path):
    async def use(station):
        for _ in range(4):
            await station.trigger(JobRequest())
        results = await settled(station)
        assert list(station.spool.iterdir()) == []
        for result in results:
            assert (await station.archive_file(result.result_id, "photo")).is_file()

    run_in(tmp_path, use)


def test_a_key_of_one_part_never_brings_the_verdict_to_another(tmp_path):
    async def use(station):
        job = await station.trigger(JobRequest(key="1", part_id="a"))
        (good,) = await settled(station)
        assert good.decision is Decision.OK
        assert (await station.trigger(JobRequest(key="1", part_id="a"))).job_id == job.job_id
        for other in (JobRequest(key="1", part_id="b"), JobRequest(key="1", part_id="a", meas_id="2")):
            with pytest.raises(StationError, match="was used for a part with another"):
                await station.trigger(other)
        assert station.tally.counters.refused == 2
        one, other = (station.trigger(JobRequest(key="2", part_id=name)) for name in "cd")
        answers = await asyncio.gather(one, other, return_exceptions=True)
        assert [isinstance(answer, StationError) for answer in answers] == [False, True]
        assert [result.part_id for result in await settled(station)] == ["a", "c"]

    run_in(tmp_path, use)


def test_a_trigger_cannot_take_the_key_of_a_cameras_frame(tmp_path):
    async def use(station):
        await station.trigger(JobRequest(key="frame:top:top-1.npy", origin="http"))
        await settled(station)
        with pytest.raises(StationError, match="another origin"):
            await station.frame("top", Spooled(file="top-1.npy", captured_ns=0, captured=""), 0)

    run_in(tmp_path, use)


def test_texts_without_an_end_are_refused(tmp_path):
    async def use(station):
        for name in ("part_id", "meas_id", "key"):
            with pytest.raises(StationError, match=f"a {name} of 301 characters"):
                await station.trigger(JobRequest(**{name: "x" * 301}))
        await station.trigger(JobRequest(part_id="x" * 300))
        assert len(await settled(station)) == 1

    run_in(tmp_path, use)
