"""The hub's end of the wire: real sockets, workers that say hello, go away in the middle, and come again."""

import asyncio

import pytest

from judo_edge.errors import StationError
from judo_edge.station.client import StationClient
from judo_edge.station.hub.service import Service
from judo_edge.station.hub.station import Station
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.results import Code, JobRequest, ProcessHealth
from judo_edge.station.states import State
from judo_edge.station.wire import connect
from tests.station_parts import GOOD, Script, ScriptedEye, all_results, scripted_config, until, wired_workers


def served(tmp_path, use, script=None, **station):
    """Run `use(station, client, script)` over a real socket, without workers."""
    script = script or Script(outcomes=[GOOD])

    async def run():
        config = scripted_config(tmp_path, **station)
        running = Station(config, Ledger(config.data, 1 << 20), tmp_path / "run")
        await running.start()
        service = Service(running, tmp_path / "run")
        await service.open()
        try:
            async with StationClient(tmp_path / "run" / "hub.sock", "web") as client:
                await use(running, client, config, script)
        finally:
            await running.close()
            await service.close()

    asyncio.run(run())


def test_workers_over_the_wire_judge_parts(tmp_path):
    async def use(station, client, config, script):
        async with wired_workers(config, script, tmp_path / "run"):
            await until(lambda: station.machine.state is State.READY)
            for number in range(5):
                await client.trigger(JobRequest(part_id=str(number)))
            await until(lambda: not station.flow.jobs.all())
            results = await all_results(client)
            assert [(one.part_id, one.code) for one in results] == [(str(n), Code.INSPECTED) for n in range(5)]
            assert all(one.photo for one in results)
            assert (await client.live("top")).startswith(b"\xff\xd8")
            pieces = [piece async for piece in client.ask(results[0].result_id, "why?")]
            assert pieces == ["You asked: ", "why?"]
            assert await client.references("lid") == ()
            assert (await client.enroll("lid", tmp_path / "a.png", "upload", "ann")).part == "lid"
            assert len(await client.references("lid")) == 1

    served(tmp_path, use)


def test_an_inspector_that_ends_in_the_middle_fails_its_job_at_once(tmp_path):
    async def use(station, client, config, script):
        async with wired_workers(config, script, tmp_path / "run"):
            await until(lambda: station.machine.state is State.READY)
            await client.trigger(JobRequest())
            await until(lambda: script.inspected)
        await until(lambda: station.tally.last_number == 1)
        (result,) = await all_results(client)
        assert result.code is Code.INSPECTOR_LOST
        assert result.total_seconds < 20
        assert station.machine.state is State.ERROR
        script.inspect_seconds = 0.0
        async with wired_workers(config, script, tmp_path / "run"):
            await until(lambda: station.machine.state is State.READY)
            await client.trigger(JobRequest())
            await until(lambda: station.tally.last_number == 2)
            assert (await all_results(client))[-1].code is Code.INSPECTED

    served(tmp_path, use, Script(outcomes=[GOOD], inspect_seconds=30), deadline=30)


def test_a_camera_that_ends_in_the_middle_fails_its_job_at_once(tmp_path):
    async def use(station, client, config, script):
        async with wired_workers(config, script, tmp_path / "run"):
            await until(lambda: station.machine.state is State.READY)
            await client.trigger(JobRequest())
        await until(lambda: station.tally.last_number == 1)
        assert (await all_results(client))[0].code is Code.CAMERA_UNPLUGGED

    served(tmp_path, use, Script(grab_seconds=30), deadline=30)


def test_a_camera_offers_frames_and_the_supervisor_is_asked_to_start_again(tmp_path):
    async def use(station, client, config, script):
        asked = []

        async def restart(name):
            asked.append(name)

        peer, reading = await connect(tmp_path / "run" / "hub.sock", {"restart": restart})
        await peer.call("hello", role="supervisor", name="supervisor")
        health = ProcessHealth(name="hub", role="hub", pid=1, state="ready")
        await peer.call("processes", processes=[health.model_dump(mode="json")])
        assert (await client.status()).processes == (health,)
        await station.crew.restart("inspector")
        assert asked == ["inspector"]
        async with wired_workers(config, script, tmp_path / "run"):
            await until(lambda: station.machine.state is State.READY)
            eye = ScriptedEye(script, tmp_path / "run" / "spool", "top")
            record = eye.spooled("seen.npy", "sn-5").model_dump(mode="json")
            ids = {await client.call("frame", camera="top", spooled=record, missed=0) for _ in range(3)}
            await until(lambda: not station.flow.jobs.all())
            (result,) = await all_results(client)
            assert ids == {result.job_id}
            assert result.part_id == "sn-5"
            for bad in ("../x.npy", "a/b.npy"):
                with pytest.raises(StationError, match="without a folder"):
                    await client.call("frame", camera="top", spooled={**record, "file": bad}, missed=0)
            await client.call("camera_state", camera="top", code=122, text="frozen")
            assert (await client.status()).state is State.ERROR
        await peer.close()
        await reading
        await until(lambda: station.crew.eye("top") is None)

    served(tmp_path, use)


def test_a_camera_that_the_station_has_not_is_refused(tmp_path):
    async def use(station, client, config, script):
        with pytest.raises(StationError, match="side"):
            await client.call("hello", role="camera", name="side", pid=1)

    served(tmp_path, use)
