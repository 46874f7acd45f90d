"""The inspector as a process over JUDO-nano; at the other end of a real socket a stand-in for the hub, then the hub."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `export` (torch)")

from judo_edge.adapt.drawing.pairs import Pair
from judo_edge.adapt.drawing.parts import BASE_KINDS
from judo_edge.adapt.heldout import heldout_pairs
from judo_edge.core import Decision
from judo_edge.export.pipeline import export_bundle
from judo_edge.runtime.photos import png_from_image
from judo_edge.runtime.references import ReferenceStore
from judo_edge.station import wire
from judo_edge.station.client import StationClient
from judo_edge.station.config import station_from_file
from judo_edge.station.processes.hub import run_hub
from judo_edge.station.results import Code, Condition, JobRequest, Recipe, Result, ResultQuery
from judo_edge.station.states import State
from judo_edge.station.workers import SOCKET_NAME, Outcome
from tests.inspector_process import FAULT
from tests.judging import spooled

pytestmark = pytest.mark.slow

PATIENCE = 60.0
STATION = """
[station]
name = "test"
threads = 1
deadline = 30
[[recipes]]
id = "lid"
bundle = "{bundle}"
"""


class StandInHub:
    """Listens where the hub would and calls the inspector; knows no states, jobs or deadlines."""

    def __init__(self, run_folder: Path) -> None:
        self._socket = run_folder / SOCKET_NAME
        self._peers: list[wire.Peer] = []
        self._server: asyncio.Server | None = None
        self.hellos: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def start(self) -> None:
        self._server = await wire.serve(self._socket, self._peers.append, lambda: {"hello": self._hello})

    async def die(self) -> None:
        """End as a killed process does: listening and all connections at once."""
        assert self._server is not None
        self._server.close()
        for peer in self._peers:
            await peer.close()
        self._peers.clear()

    async def met(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.hellos.get(), PATIENCE)

    async def call(self, method: str, **params: Any) -> Any:
        return await asyncio.wait_for(self._peers[-1].call(method, **params), PATIENCE)

    async def outcome(self, job_id: str, internal_id: str, photo: Any) -> Outcome:
        params = {"job_id": job_id, "internal_id": internal_id, "spooled": photo.model_dump(mode="json")}
        items = [item async for item in self._peers[-1].stream("inspect", **params)]
        return Outcome.model_validate(items[-1]["outcome"])

    async def pieces(self, **params: Any) -> str:
        return "".join([piece async for piece in self._peers[-1].stream("ask", **params)])

    async def _hello(self, role: str, name: str, pid: int) -> None:
        await self.hellos.put({"role": role, "name": name, "pid": pid})


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return heldout_pairs(BASE_KINDS[:1], 20, seed=79_500_000)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle("judo-nano", [], "cpu-int8", tmp_path_factory.mktemp("station") / "nano")


@pytest.fixture
def station(tmp_path: Path, bundle: Path, pairs: list[Pair]) -> Path:
    (tmp_path / "STATION.toml").write_text(STATION.format(bundle=bundle))
    ReferenceStore(tmp_path / "references").enroll("lid", pairs[0].reference, "first.png")
    (tmp_path / "run").mkdir()
    return tmp_path


@asynccontextmanager
async def inspector(station: Path) -> AsyncIterator[tuple[StandInHub, asyncio.subprocess.Process]]:
    """Run the process and the stand-in; both are gone afterwards, whatever happens."""
    hub = StandInHub(station / "run")
    await hub.start()
    command = (sys.executable, "-m", "tests.inspector_process", str(station / "STATION.toml"), str(station / "run"))
    process = await asyncio.create_subprocess_exec(*command)
    try:
        assert (await hub.met()) == {"role": "inspector", "name": "inspector", "pid": process.pid}
        yield hub, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await hub.die()


def run(station: Path, use: Callable[[StandInHub, asyncio.subprocess.Process], Awaitable[None]]) -> None:
    async def main() -> None:
        async with inspector(station) as (hub, process):
            await use(hub, process)

    asyncio.run(asyncio.wait_for(main(), 3 * PATIENCE))


def told(outcome: Outcome) -> Outcome:
    """Return what an outcome says, without how long it took."""
    return outcome.model_copy(update={"seconds": {}})


def test_twenty_photos_a_killed_hub_and_a_rollback(station: Path, pairs: list[Pair]) -> None:
    async def use(hub: StandInHub, process: asyncio.subprocess.Process) -> None:
        first = await hub.call("prepare", external_id="lid", internal_id="")
        photos = [spooled(station / "run", pair.query, f"{number}.npy") for number, pair in enumerate(pairs)]
        (station / "run" / "spool" / "7.npy").write_bytes(b"\x93NUMPY broken")
        jobs = [hub.outcome(str(number), first["internal_id"], photo) for number, photo in enumerate(photos)]
        outcomes = await asyncio.wait_for(asyncio.gather(*jobs), PATIENCE)
        codes = [outcome.code for outcome in outcomes]
        assert codes[7] is Code.PHOTO_UNREADABLE and set(codes[:7] + codes[8:]) == {Code.INSPECTED}
        kept = await hub.call("keep", job_id="19", result_id="r19", decision=outcomes[19].decision.value)
        archived = station / "station-data" / "archive" / kept["photo"]
        assert archived.is_file()

        await hub.die()
        await hub.start()
        assert (await hub.met())["pid"] == process.pid  # the same process, its engine still open
        again = await hub.call("prepare", external_id="lid", internal_id=first["internal_id"])
        assert again == first
        await _changed(hub, station, pairs, first["reference_ids"][0])
        newer = await hub.call("prepare", external_id="lid", internal_id="")
        assert newer["internal_id"] != first["internal_id"]
        changed = [await hub.outcome(f"b{n}", newer["internal_id"], photos[n]) for n in range(3)]
        await hub.call("prepare", external_id="lid", internal_id=first["internal_id"])
        back = [await hub.outcome(f"c{n}", first["internal_id"], photos[n]) for n in range(3)]
        assert [told(one) for one in back] == [told(one) for one in outcomes[:3]]
        assert {one.reference_id for one in changed}.isdisjoint(first["reference_ids"])
        asked = {"photo": str(archived), "internal_id": newer["internal_id"], "question": "Is it broken?"}
        assert (await hub.pieces(**asked)).startswith("Marked cells: ")

        await hub.call("unprepare", internal_id=newer["internal_id"])
        await hub.call("end")
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0

    run(station, use)


async def _changed(hub: StandInHub, station: Path, pairs: list[Pair], earlier: str) -> None:
    """Enrol another good part and retire the one that was used so far, as a person does over the station."""
    (station / "second.png").write_bytes(png_from_image(pairs[1].reference))
    who = {"part": "lid", "user": "eva"}
    added = await hub.call("enroll", photo=str(station / "second.png"), source="second.png", **who)
    await hub.call("retire", reference_id=earlier, **who)
    listed = await hub.call("references", part="lid")
    assert [one["reference_id"] for one in listed] == [earlier, added["reference_id"]] and listed[0]["retired"]
    assert Path(await hub.call("reference_file", part="lid", reference_id=earlier)).is_file()
    assert await hub.call("reference_file", part="lid", reference_id="../x") is None


def test_an_engine_that_fails_again_and_again_ends_the_process(station: Path, pairs: list[Pair]) -> None:
    async def use(hub: StandInHub, process: asyncio.subprocess.Process) -> None:
        recipe = await hub.call("prepare", external_id="lid", internal_id="")
        photo = spooled(station / "run", pairs[0].query)
        (station / "run" / FAULT).write_text("raise")
        for number in range(3):
            found = await hub.outcome(str(number), recipe["internal_id"], photo)
            assert found.code is Code.ENGINE_FAULT
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 1

    run(station, use)


def test_an_engine_that_hangs_does_not_keep_the_process_from_answering_and_ending(
    station: Path, pairs: list[Pair]
) -> None:
    async def use(hub: StandInHub, process: asyncio.subprocess.Process) -> None:
        recipe = await hub.call("prepare", external_id="lid", internal_id="")
        photo = spooled(station / "run", pairs[0].query)
        (station / "run" / FAULT).write_text("hang")
        waiting = asyncio.create_task(hub.outcome("1", recipe["internal_id"], photo))
        until = time.monotonic() + PATIENCE
        while not (kept := await hub.call("keep", job_id="1", result_id="r1", decision="NOT_DECIDABLE")).get("photo"):
            assert time.monotonic() < until
        assert (station / "station-data" / "archive" / kept["photo"]).is_file()
        assert len(await hub.call("references", part="lid")) == 1 and not waiting.done()
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), PATIENCE)
        with pytest.raises(wire.LostError):
            await waiting

    run(station, use)


async def reached(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until a condition holds and return what it says."""
    until = time.monotonic() + PATIENCE
    while not (found := await condition()):
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def hub_and_inspector(station: Path) -> AsyncIterator[tuple[StationClient, Callable[[], Awaitable[None]]]]:
    """Run the real hub in this process and the inspector in its own; yields a client, and what kills the inspector."""
    hub = asyncio.create_task(run_hub(station_from_file(station / "STATION.toml"), station / "run"))
    command = (sys.executable, "-m", "tests.inspector_process", str(station / "STATION.toml"), str(station / "run"))
    processes = [await asyncio.create_subprocess_exec(*command)]

    async def start_again() -> None:
        processes[-1].kill()
        await processes[-1].wait()
        processes.append(await asyncio.create_subprocess_exec(*command))

    try:
        await reached(lambda: asyncio.to_thread((station / "run" / SOCKET_NAME).exists))
        async with StationClient(station / "run" / SOCKET_NAME, "test") as client:
            yield client, start_again
    finally:
        if processes[-1].returncode is None:
            processes[-1].kill()
        await processes[-1].wait()
        hub.cancel()
        await asyncio.gather(hub, return_exceptions=True)


def test_with_the_real_hub(station: Path, pairs: list[Pair]) -> None:
    async def use(client: StationClient, start_again: Callable[[], Awaitable[None]]) -> None:
        async def is_ready() -> bool:
            status = await client.status()
            return status.state is State.READY and bool(status.recipes)

        async def judged(path: Path) -> Result:
            """Have a photo judged and wait until its files are in the archive."""
            job = await client.trigger(JobRequest(path=str(path), recipe="lid"))
            query = ResultQuery(job_id=job.job_id)

            async def found() -> tuple[Result, ...]:
                results = await client.results(query)
                return results if results and (results[0].photo or results[0].code is not Code.INSPECTED) else ()

            return (await reached(found))[0]

        await reached(is_ready)
        good, text = (station / name for name in ("good.png", "text.png"))
        good.write_bytes(png_from_image(pairs[0].query))
        text.write_text("no photo")
        first, broken = await judged(good), await judged(text)
        assert first.code is Code.INSPECTED and (await client.archive_file(first.result_id, "photo")).is_file()
        assert (broken.decision, broken.code) == (Decision.NOT_DECIDABLE, Code.PHOTO_UNREADABLE)
        answer = [piece async for piece in client.ask(first.result_id, "Is there any defect in the object?")]
        assert answer[0].startswith("Marked cells: ") and answer[-1].strip() in ("A. Yes.", "B. No.")

        (station / "second.png").write_bytes(png_from_image(pairs[1].reference))
        await client.enroll("lid", station / "second.png", "second.png", "eva")
        newer = await reached(lambda: another_version(client, first.internal_recipe_id))
        assert len(newer.reference_ids) == 2
        back = await client.prepare("lid", first.internal_recipe_id)
        assert back.internal_id == first.internal_recipe_id and len(back.reference_ids) == 1
        await start_again()
        await reached(is_ready)
        again = await judged(good)
        assert again.internal_recipe_id == first.internal_recipe_id  # the version that was chosen stays chosen
        same = {"decision", "score", "mask", "reply", "reference_id", "references_digest", "bundle_digest"}
        assert again.model_dump(include=same) == first.model_dump(include=same)

    async def main() -> None:
        async with hub_and_inspector(station) as (client, start_again):
            await use(client, start_again)

    asyncio.run(asyncio.wait_for(main(), 3 * PATIENCE))


async def another_version(client: StationClient, internal_id: str) -> Recipe | None:
    prepared = (await client.status()).recipes
    return prepared[-1] if prepared and prepared[-1].internal_id != internal_id else None


def test_challenge_parts_are_judged_by_the_inspector_of_the_line(station: Path, pairs: list[Pair]) -> None:
    """With the real hub and model: right masters let OK through, a wrong one holds it back, over a restart too."""
    masters = station / "masters" / "lid"
    photos = [station / f"{number:02d}.png" for number in range(len(pairs))]
    for photo, pair in zip(photos, pairs, strict=True):
        photo.write_bytes(png_from_image(pair.query))

    async def verdict(client: StationClient, photo: Path) -> Result:
        job = await client.trigger(JobRequest(path=str(photo), recipe="lid"))
        return (await reached(lambda: client.results(ResultQuery(job_id=job.job_id))))[0]

    async def is_state(client: StationClient, state: str) -> bool:
        return (await client.status()).challenge.get("lid") == state

    def put(kind: str, photo: Path) -> None:
        (masters / kind).mkdir(parents=True, exist_ok=True)
        (masters / kind / photo.name).write_bytes(photo.read_bytes())

    async def first(client: StationClient) -> Path:
        await reached(lambda: is_state(client, "none"))
        by_decision = {(await verdict(client, photo)).decision: photo for photo in photos}
        good, bad = by_decision[Decision.OK], by_decision[Decision.NOK]
        put("pass", good)
        put("fail", bad)
        await client.challenge("lid")
        await reached(lambda: is_state(client, "passed"))
        put("fail", good)
        await client.challenge("lid")
        await reached(lambda: is_state(client, "failed"))
        return good

    async def second(client: StationClient, good: Path) -> None:
        async def told() -> list[Condition]:
            return [one for one in (await client.status()).conditions if one.name == "challenge.lid"]

        await reached(lambda: is_state(client, "failed"))
        held = await verdict(client, good)
        (condition,) = await reached(told)
        assert (held.decision, held.code) == (Decision.NOT_DECIDABLE, Code.CHALLENGE_PENDING)
        assert f"fail/{good.name} is OK and must be NOK" in condition.text
        (masters / "fail" / good.name).unlink()
        await client.challenge("lid")
        await reached(lambda: is_state(client, "passed"))
        assert (await verdict(client, good)).decision is Decision.OK

    async def main() -> None:
        async with hub_and_inspector(station) as (client, _):
            good = await first(client)
        async with hub_and_inspector(station) as (client, _):
            await second(client, good)

    asyncio.run(asyncio.wait_for(main(), 3 * PATIENCE))
