"""In and out of Error: workers that go and come back, recipes that fail, choices that outlive a restart."""

import asyncio

import pytest

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.results import Code, EventKind, JobRequest, ProcessHealth, ResultQuery
from judo_edge.station.states import State
from tests.station_parts import GOOD, Script, all_results, scripted_config, scripted_station, scripted_workers, until


def run_in(tmp_path, use, script=None, is_ready=True, **station):
    async def run():
        config = scripted_config(tmp_path, **station)
        script_ = script or Script()
        async with scripted_station(tmp_path, script_, config, is_ready=is_ready) as running:
            return await use(running, *scripted_workers(config, script_, tmp_path / "run"))

    return asyncio.run(run())


def active(station):
    return {one.name for one in station.conditions.all() if one.is_active}


def test_without_an_inspector_the_station_is_in_error_until_it_is_back(tmp_path):
    async def use(station, judge, eyes):
        told = []
        listening = asyncio.create_task(collect(station, told))
        await asyncio.sleep(0)
        station.crew.leave_judge(station.crew.judge)
        assert station.machine.state is State.ERROR
        assert active(station) == {"process.inspector"}
        try:
            await station.trigger(JobRequest(origin="opcua"))
            raise AssertionError("a trigger in Error was accepted")
        except StationError as error:
            assert "Error" in str(error)
        assert station.tally.counters.refused == 1
        station.crew.join_judge(judge)
        await until(lambda: station.machine.state is State.READY)
        assert active(station) == set()
        assert [one.name for one in station.conditions.all()] == ["process.inspector"]
        await station.confirm_all("seen", "ann")
        assert station.conditions.all() == ()
        await station.trigger(JobRequest())
        await until(lambda: not station.flow.jobs.all())
        listening.cancel()
        kinds = [event.kind for event in told]
        assert kinds.index(EventKind.ERROR) < kinds.index(EventKind.ERROR_RESOLVED) < kinds.index(EventKind.RESULT)
        (result,) = await all_results(station)
        assert (result.code, result.missed_before) == (Code.INSPECTED, 1)

    run_in(tmp_path, use, Script(outcomes=[GOOD]))


async def collect(station, told):
    async for event in station.events():
        told.append(event)


def test_jobs_that_were_accepted_before_an_error_get_their_verdicts(tmp_path):
    async def use(station, judge, eyes):
        for _ in range(3):
            await station.trigger(JobRequest())
        await until(lambda: station.flow.jobs.all()[0].spooled)
        station.crew.leave_judge(station.crew.judge)
        await until(lambda: station.tally.last_number == 3)
        assert Code.INSPECTOR_LOST in {one.code for one in await all_results(station)}

    run_in(tmp_path, use, Script(inspect_seconds=0.2))


def test_without_any_camera_the_station_is_in_error_until_one_works(tmp_path):
    async def use(station, judge, eyes):
        station.crew.camera_state("top", Code.CAMERA_FROZEN, "five equal frames")
        assert station.machine.state is State.ERROR
        (condition,) = station.conditions.all()
        assert (condition.name, condition.code, condition.text) == ("camera.top", 122, "five equal frames")
        station.crew.camera_state("top", 0, "")
        await until(lambda: station.machine.state is State.READY)
        station.crew.leave_eye("top", station.crew.eye("top"))
        assert station.machine.state is State.ERROR
        station.crew.join_eye("top", eyes["top"])
        await until(lambda: station.machine.state is State.READY)

    run_in(tmp_path, use)


def test_a_station_that_is_not_automatic_waits_for_people(tmp_path):
    async def use(station, judge, eyes):
        assert station.machine.state is State.PREOPERATIONAL
        await station.select_automatic()
        assert station.machine.state is State.INITIALIZED
        assert station.prepared() == ()
        await station.prepare("base")
        assert station.machine.state is State.READY
        await station.unprepare("base")
        assert station.machine.state is State.INITIALIZED
        station.crew.leave_judge(station.crew.judge)
        station.crew.join_judge(judge)
        await asyncio.sleep(0.05)
        assert station.machine.state is State.ERROR
        await station.reset(0, "")
        assert station.machine.state is State.PREOPERATIONAL

    run_in(tmp_path, use, is_automatic=False)


def test_workers_that_never_come_are_missed_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.hub.steward.GRACE_SECONDS", 0.2)

    async def use(station, judge, eyes):
        assert (station.machine.state, station.conditions.all()) == (State.PREOPERATIONAL, ())
        await until(lambda: station.machine.state is State.ERROR)
        assert active(station) == {"process.inspector", "camera.top"}
        station.crew.join_judge(judge)
        station.crew.join_eye("top", eyes["top"])
        await until(lambda: station.machine.state is State.READY)

    run_in(tmp_path, use, is_ready=False)


def test_a_recipe_that_cannot_be_prepared_is_a_condition_and_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.hub.steward.PREPARE_AGAIN_SECONDS", 0.1)
    script = Script(prepare_error=StationError("the bundle failed its verification"))

    async def use(station, judge, eyes):
        station.crew.join_eye("top", eyes["top"])
        station.crew.join_judge(judge)
        await until(lambda: station.machine.state is State.INITIALIZED)
        assert active(station) == {"recipe.lid"}
        script.prepare_error = None
        await until(lambda: station.machine.state is State.READY)
        assert active(station) == set()

    run_in(tmp_path, use, script, is_ready=False)


def test_an_earlier_version_that_was_chosen_stays_chosen_over_a_restart(tmp_path):
    script = Script()

    async def first(station, judge, eyes):
        (old,) = station.prepared()
        await station.enroll("lid", tmp_path / "photo.png", "upload", "ann")
        (new,) = station.prepared()
        assert new.internal_id != old.internal_id
        await station.prepare("lid", old.internal_id)
        versions = await station.recipes()
        assert [(one.internal_id, one.is_prepared) for one in versions] == [
            (old.internal_id, True),
            (new.internal_id, False),
        ]
        return old, new

    async def second(station, judge, eyes):
        found = station.prepared()[0].internal_id
        await station.prepare("lid")
        return found

    async def third(station, judge, eyes):
        return station.prepared()[0].internal_id

    old, new = run_in(tmp_path, first, script)
    assert run_in(tmp_path, second, script) == old.internal_id
    assert run_in(tmp_path, third, script) == new.internal_id


def test_the_last_prepared_recipe_is_the_one_for_triggers_that_name_none(tmp_path):
    async def use(station, judge, eyes):
        for name in ("", "lid", "base"):
            if name:
                await station.prepare(name)
            await station.trigger(JobRequest())
            await until(lambda: not station.flow.jobs.all())
        assert [one.external_recipe_id for one in await all_results(station)] == ["lid", "lid", "base"]
        assert (await all_results(station))[-1].part == "base-7"
        assert len(await station.results(ResultQuery(external_recipe_id="base"))) == 1

    run_in(tmp_path, use)


def test_which_recipe_is_the_default_outlives_restarts_and_new_inspectors(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.hub.steward.PREPARE_AGAIN_SECONDS", 0.05)
    script = Script()

    async def first(station, judge, eyes):
        await station.prepare("base")
        await station.enroll("lid", tmp_path / "photo.png", "upload", "ann")
        assert [one.external_id for one in station.prepared()] == ["lid", "base"]
        station.crew.leave_judge(station.crew.judge)
        station.crew.join_judge(judge)
        await until(lambda: station.machine.state is State.READY)
        assert [one.external_id for one in station.prepared()] == ["lid", "base"]

    async def second(station, judge, eyes):
        assert [one.external_id for one in station.prepared()] == ["lid", "base"]
        station.crew.leave_judge(station.crew.judge)
        script.failing = {"base"}
        station.crew.join_judge(judge)
        await until(lambda: station.machine.state is State.READY)
        assert [one.external_id for one in station.prepared()] == ["lid"]
        with pytest.raises(StationError, match="prepared"):  # never judged by another recipe in its place
            await station.trigger(JobRequest())
        script.failing = set()
        await until(lambda: len(station.prepared()) == 2)
        await station.trigger(JobRequest())
        await until(lambda: not station.flow.jobs.all())
        assert [one.external_recipe_id for one in await all_results(station)] == ["base"]

    run_in(tmp_path, first, script)
    run_in(tmp_path, second, script)


def test_a_recipe_that_becomes_ready_after_a_reset_is_not_prepared(tmp_path):
    script = Script()

    async def use(station, judge, eyes):
        script.prepare_seconds = 0.2
        preparing = asyncio.create_task(station.prepare("base"))
        await asyncio.sleep(0.05)
        await station.reset(0, "")
        with pytest.raises(StationError, match="meanwhile"):
            await preparing
        assert station.prepared() == ()
        assert station.machine.state is State.PREOPERATIONAL

    run_in(tmp_path, use, script)


def test_the_heartbeat_counts_and_carries_the_status(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.hub.steward.HEARTBEAT_SECONDS", 0.02)

    async def use(station, judge, eyes):
        station.crew.processes = (ProcessHealth(name="hub", role="hub", pid=1, state="ready"),)
        beats = [event.data async for event in limited(station.events(), 3)]
        counts = [data["heartbeat"] for data in beats]
        assert counts == list(range(counts[0], counts[0] + 3))
        assert beats[-1]["state"] == "Ready"
        assert beats[-1]["processes"][0]["name"] == "hub"

    run_in(tmp_path, use)


async def limited(events, count):
    async for event in events:
        if event.kind is EventKind.HEARTBEAT:
            yield event
            count -= 1
            if not count:
                return


def test_photos_that_an_earlier_run_left_are_removed_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.hub.steward.UNUSED_SECONDS", 0.3)
    monkeypatch.setattr("judo_edge.station.hub.steward.SWEEP_SECONDS", 0.1)
    spool = tmp_path / "run" / "spool"
    spool.mkdir(parents=True)
    (spool / "left.npy").write_bytes(b"x")

    async def use(station, judge, eyes):
        assert (spool / "left.npy").exists()
        await until(lambda: not (spool / "left.npy").exists())

    run_in(tmp_path, use)


def test_a_damaged_ledger_is_told(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.sqlite").write_bytes(b"nonsense" * 999)

    async def use(station, judge, eyes):
        (condition,) = station.conditions.all()
        assert condition.name == "ledger"
        assert "ledger-damaged-" in condition.text
        await station.trigger(JobRequest())
        await until(lambda: not station.flow.jobs.all())
        assert (await all_results(station))[0].number == 1

    run_in(tmp_path, use)


def test_people_review_ask_and_look(tmp_path):
    async def use(station, judge, eyes):
        await station.trigger(JobRequest(part_id="p"))
        await until(lambda: not station.flow.jobs.all())
        (result,) = await all_results(station)
        assert (await station.review(result.result_id, "NOK", "ann", "scratch")).review == "NOK"
        assert "".join([piece async for piece in station.ask(result.result_id, "why?")]) == "You asked: why?"
        assert (await station.live("top")).startswith(b"\xff\xd8")
        assert (await station.archive_file(result.result_id, "reference")).is_file()
        assert await station.archive_file(result.result_id, "mask") is None
        assert await station.acknowledge("web", [result.result_id]) == (True,)
        assert await station.unacknowledged("web") == ()
        assert await station.result("unknown") is None

    run_in(tmp_path, use)


def test_a_retired_reference_judges_no_more_also_where_nothing_can_take_its_place(tmp_path):
    script = Script()

    async def use(station, judge, eyes):
        (old,) = [one for one in station.prepared() if one.external_id == "lid"]
        info = await station.enroll("lid", tmp_path / "photo.png", "upload", "ann")
        await station.prepare("lid", old.internal_id)
        script.failing.add("lid")
        with pytest.raises(StationError, match="cannot be opened"):
            await station.retire("lid", info.reference_id, "ann")
        assert "recipe.lid" in active(station)
        with pytest.raises(StationError, match="prepared"):
            await station.trigger(JobRequest(recipe="lid"))
        assert station.recipe_book.wanted["lid"] == ""
        script.failing.clear()
        await station.enroll("lid", tmp_path / "photo.png", "upload", "ann")
        await station.trigger(JobRequest(recipe="lid"))
        assert "recipe.lid" not in active(station)

    run_in(tmp_path, use, script)


def test_nothing_is_ok_while_a_reference_is_being_taken_away(tmp_path):
    script = Script(outcomes=[GOOD])

    async def use(station, judge, eyes):
        info = await station.enroll("lid", tmp_path / "photo.png", "upload", "ann")
        script.prepare_seconds = 3.0
        retiring = asyncio.create_task(station.retire("lid", info.reference_id, "ann"))
        await until(lambda: station.changing["lid"])
        job = await station.trigger(JobRequest(recipe="lid"))
        await until(lambda: not station.flow.jobs.has(job.job_id))
        assert not retiring.done(), "the new version was ready before the part was judged"
        await retiring
        later = await station.trigger(JobRequest(recipe="lid"))
        await until(lambda: not station.flow.jobs.has(later.job_id))
        held, free = await all_results(station)
        assert (held.decision, held.code) == (Decision.NOT_DECIDABLE, Code.CHALLENGE_PENDING)
        assert (free.decision, free.code) == (Decision.OK, Code.INSPECTED)

    run_in(tmp_path, use, script)


def test_a_calibrated_decision_that_no_longer_holds_is_told(tmp_path):
    script = Script(decision_version=3)

    async def use(station, judge, eyes):
        assert "decision.lid" not in active(station)
        script.decision_version = None
        await station.enroll("lid", tmp_path / "photo.png", "upload", "ann")
        assert "decision.lid" in active(station)
        script.decision_version = 4
        await station.prepare("lid")
        assert "decision.lid" not in active(station)

    run_in(tmp_path, use, script)


def test_processes_that_are_being_stopped_are_not_missed(tmp_path):
    async def use(station, judge, eyes):
        station.steward.is_stopping = True
        station.crew.leave_judge(station.crew.judge)
        assert active(station) == set()
        assert station.machine.state is State.READY

    run_in(tmp_path, use)


def test_a_station_is_first_ready_when_all_its_cameras_are_there(tmp_path):
    one = scripted_config(tmp_path)
    side = one.cameras[0].model_copy(update={"name": "side"})
    config = one.model_copy(update={"cameras": (*one.cameras, side)})

    async def run():
        async with scripted_station(tmp_path, Script(), config, is_ready=False) as station:
            judge, eyes = scripted_workers(config, Script(), tmp_path / "run")
            station.crew.join_judge(judge)
            station.crew.join_eye("top", eyes["top"])
            await until(lambda: station.machine.state is State.INITIALIZED and station.prepared())
            await asyncio.sleep(0.1)
            assert station.machine.state is State.INITIALIZED
            station.crew.join_eye("side", eyes["side"])
            await until(lambda: station.machine.state is State.READY)

    asyncio.run(run())
