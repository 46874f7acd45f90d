"""The tags without a network: what a PLC reads amid a trigger, an earlier part's result, the return of the core."""

import asyncio

import pytest

pytest.importorskip("asyncua")

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.config import StationConfig
from judo_edge.station.opcua.server import OpcuaServer
from judo_edge.station.opcua.space import Space
from judo_edge.station.opcua.tags import Tags
from judo_edge.station.results import CHALLENGE, Code, Job, JobRequest, Result, ResultState, Status
from judo_edge.station.states import State

CONFIG = StationConfig.model_validate({"station": {"name": "t"}, "recipes": [{"id": "lid", "bundle": "b"}]})


def good(part_id, number=1, decision=Decision.OK, **changed):
    now = "2026-11-25T01:02:03.000004+00:00"
    return Result(
        number=number, result_id=f"r-{number}", job_id=f"job-{part_id}", state=ResultState.COMPLETED,
        decision=decision, code=Code.INSPECTED, reason="", part_id=part_id, created=now, triggered=now, **changed,
    )  # fmt: skip


class Seen(Space):
    """An address space that notes every write, and lets others run in between."""

    def __init__(self, station):
        super().__init__(None, CONFIG, station)
        self.writes = []

    async def write(self, node, value, status=0):
        self.writes.append((node, value.Value))
        await asyncio.sleep(0)


class Line:
    """A station that accepts a trigger when it is let."""

    def __init__(self):
        self.may_accept = asyncio.Event()

    async def trigger(self, request):
        await self.may_accept.wait()
        if request.part_id == "refused":
            raise StationError("not ready", number=-30)
        return Job(job_id=f"job-{request.part_id}", request=JobRequest(), recipe_id="", created="", deadline=1.0)


def with_tags(use):
    async def run():
        line = Line()
        tags = Tags(Seen(line))
        tags._nodes = {name: name for name in tags._values}
        await use(tags, line, tags._space.writes)

    asyncio.run(run())


def states(writes):
    """Return all tags as they stood after each write."""
    now, found = {"Done": False, "Ok": False, "Busy": False}, []
    for name, value in writes:
        now = now | {name: value}
        found.append(now)
    return found


def test_an_earlier_parts_result_leaves_the_station_busy_with_the_triggered_one():
    async def use(tags, line, writes):
        await tags.job_started("job-a")
        starting = asyncio.create_task(tags._called("b", ""))
        await asyncio.sleep(0.01)
        await tags.show_result(good("a"))
        assert [one for one in states(writes) if one["Done"] and not one["Busy"]] == []
        line.may_accept.set()
        await starting
        await tags.show_result(good("b", 2))
        last = states(writes)[-1]
        assert (last["PartId"], last["Ok"], last["Busy"], last["Done"]) == ("b", True, False, False)

    with_tags(use)


def test_a_trigger_amid_the_writing_of_a_result_does_not_mix_both():
    async def use(tags, line, writes):
        line.may_accept.set()
        await tags.job_started("job-a")
        for num_steps in range(12):
            writes.clear()
            showing = asyncio.create_task(tags.show_result(good("a", decision=Decision.NOK)))
            for _ in range(num_steps):
                await asyncio.sleep(0)
            await tags._called("b", "")
            await showing
            seen = [one for one, (name, _) in zip(states(writes), writes, strict=True) if name == "Done"]
            assert len(seen) == 1 and seen[0]["Nok"] and not seen[0]["Ok"]
            assert tags._values["Busy"]
            tags._open.clear()
            await tags._clear()

    with_tags(use)


def test_a_result_that_comes_before_the_answer_to_its_trigger_leaves_nothing_busy():
    async def use(tags, line, writes):
        starting = asyncio.create_task(tags._called("a", ""))
        await asyncio.sleep(0.01)
        await tags.job_started("job-a")
        await tags.show_result(good("a"))
        line.may_accept.set()
        await starting
        assert not tags._is_busy

    with_tags(use)


def test_a_refusal_clears_what_was_good():
    async def use(tags, line, writes):
        line.may_accept.set()
        await tags.show_result(good("a"))
        with pytest.raises(StationError):
            await tags._called("refused", "")
        last = states(writes)[-1]
        assert (last["Ok"], last["NotDecidable"], last["Error"], last["PartId"], last["Busy"]) == (
            False, True, True, "refused", False,
        )  # fmt: skip

    with_tags(use)


class Recorded:
    """Stands for every part of the server, and notes in which order they are told."""

    def __init__(self, told, name):
        self.told, self.name = told, name

    def __getattr__(self, method):
        async def told(*values, **named):
            self.told.append((self.name, method, *values))

        return told


def server_with(results):
    class Station:
        async def results(self, query):
            return tuple(one for one in results if one.number > query.after)

        async def recipes(self):
            return ()

    server, told = OpcuaServer(CONFIG, Station()), []
    for name in ("tags", "states", "recipes", "conditions", "machinery", "emitter"):
        setattr(server, f"_{name}", Recorded(told, name))
    server._results.show = Recorded(told, "results").show
    return server, told


def test_results_of_an_absence_are_told_before_the_station_is_ready_again():
    async def use():
        server, told = server_with([good("a", 1)])
        server._last = 0
        await server._resync(Status(station="t", state=State.READY, last_number=1))
        names = [(name, method) for name, method, *_ in told]
        assert names.index(("tags", "show_result")) < names.index(("tags", "show"))

    asyncio.run(use())


def test_a_challenge_part_is_neither_the_tags_nor_the_latest_verdict():
    async def use():
        server, told = server_with([])
        await server._publish(good("fail/a.png", 1, origin=CHALLENGE, is_simulated=True))
        assert {name for name, *_ in told} == {"results", "emitter"}

    asyncio.run(use())
