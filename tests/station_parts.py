"""Scripted workers for tests of a station: cameras and an inspector that do what the test says, around a real hub.

`scripted_station` is a real `Station` over a real ledger in this loop; `scripted_hub` serves one behind a real socket
in a thread of its own, for `StationClient`. Scripts are shared: `Script.outcomes` is what the inspector says, in turn.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.client import StationClient
from judo_edge.station.config import StationConfig
from judo_edge.station.hub.service import Service
from judo_edge.station.hub.station import Station
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.results import Cells, Code, Recipe, ReferenceInfo, ResultQuery, utc_now
from judo_edge.station.states import State
from judo_edge.station.wire import Handlers, LostError, connect
from judo_edge.station.workers import SOCKET_NAME, SPOOL_NAME, Kept, Outcome, Spooled

WAIT = 30.0
"""Seconds after which a test gives up waiting."""
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgyPC4z"
    "NDL/wAALCAABAAEBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJx"
    "FDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZ"
    "mqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/APn+v//Z"
)
"""A photo of one grey pixel."""
GOOD = Outcome(
    decision=Decision.OK,
    code=Code.INSPECTED,
    reason="matches the reference",
    reference_id="ref-1",
    score=-3.0,
    threshold=0.5,
    judo=Decision.OK,
    evidence={"margin": -3.0},
    mask=Cells(rows=16, cols=16),
    seconds={"encode": 0.01},
)
BAD = GOOD.model_copy(
    update={
        "decision": Decision.NOK,
        "reason": "a scratch",
        "score": 4.0,
        "judo": Decision.NOK,
        "mask": Cells(rows=16, cols=16, cells=((2, 3), (2, 4), (3, 4))),
        "reply": "<seg>...</seg>",
    }
)


@dataclass
class Script:
    """What the workers do. Change it while the station runs."""

    outcomes: list[Outcome | Exception] = field(default_factory=lambda: [GOOD, GOOD, BAD])
    """What the inspector says, in turn and again from the start; an exception is raised."""
    inspect_seconds: float = 0.0
    grab_seconds: float = 0.0
    grab_faults: list[StationError | None] = field(default_factory=lambda: [None])
    """What a camera raises, in turn and again from the start."""
    prepare_error: StationError | None = None
    prepare_seconds: float = 0.0
    decision_version: int | None = None
    """Of the calibrated decision that holds for what is prepared."""
    failing: set[str] = field(default_factory=set)
    """Recipes that cannot be prepared."""
    versions: dict[str, int] = field(default_factory=dict)
    """How often each part's references changed."""
    restarts: list[str] = field(default_factory=list)
    """Names that the hub wanted to be started again."""
    inspected: list[str] = field(default_factory=list)
    """Job ids, as they were inspected."""
    next_outcome: Iterator[int] = field(default_factory=itertools.count)
    next_grab: Iterator[int] = field(default_factory=itertools.count)


class ScriptedEye:
    """A scripted camera: writes a small photo into the spool for each grab."""

    def __init__(self, script: Script, spool: Path, name: str) -> None:
        self._script, self._spool, self._name = script, spool, name
        self._frames = itertools.count(1)

    async def grab(self, job_id: str, timeout: float, after_ns: int) -> Spooled:
        await asyncio.sleep(self._script.grab_seconds)
        fault = self._script.grab_faults[next(self._script.next_grab) % len(self._script.grab_faults)]
        if fault is not None:
            raise fault
        return self.spooled(f"{self._name}-{job_id}.npy")

    def spooled(self, file: str, part_id: str = "") -> Spooled:
        """Write a photo and return its message."""
        self._spool.mkdir(parents=True, exist_ok=True)
        np.save(self._spool / file, np.full((8, 8, 3), 90, np.uint8))
        captured_ns = time.monotonic_ns()
        number = next(self._frames)
        return Spooled(file=file, captured_ns=captured_ns, captured=utc_now(), frame_number=number, part_id=part_id)

    async def live(self) -> bytes:
        return JPEG

    async def close(self) -> None:
        pass


class ScriptedJudge:
    """A scripted inspector: says what the script says, and keeps a small photo of each part in the archive."""

    def __init__(self, script: Script, data: Path, recipes: dict[str, str]) -> None:
        self._script, self._archive, self._recipes = script, data / "archive", recipes
        self._references: dict[str, dict[str, ReferenceInfo]] = {}

    async def prepare(self, external_id: str, internal_id: str) -> Recipe:
        await asyncio.sleep(self._script.prepare_seconds)
        if self._script.prepare_error or external_id in self._script.failing:
            raise self._script.prepare_error or StationError(f"{external_id} cannot be opened")
        part = self._recipes[external_id]
        version = f"{external_id}:{self._script.versions.get(part, 0)}"
        newest = sha256(version.encode()).hexdigest()
        return Recipe(
            external_id=external_id,
            internal_id=internal_id or newest[:32],
            part=part,
            bundle="scripted",
            bundle_digest="b" * 64,
            references_digest=newest,
            reference_ids=("ref-1",),
            decision_version=self._script.decision_version,
            created=utc_now(),
        )

    async def unprepare(self, internal_id: str) -> None:
        pass

    async def inspect(
        self, job_id: str, internal_id: str, spooled: Spooled
    ) -> AsyncIterator[dict[str, object] | Outcome]:
        self._script.inspected.append(job_id)
        outcome = self._script.outcomes[next(self._script.next_outcome) % len(self._script.outcomes)]
        if isinstance(outcome, Exception):
            raise outcome
        yield {"event": "verdict?", "decision": outcome.decision.value}
        await asyncio.sleep(self._script.inspect_seconds)
        yield outcome

    async def keep(self, job_id: str, result_id: str, decision: Decision) -> Kept:
        self._archive.mkdir(parents=True, exist_ok=True)
        (self._archive / f"{result_id}.jpg").write_bytes(JPEG)
        return Kept(photo=f"{result_id}.jpg", num_bytes=len(JPEG))

    async def ask(self, photo: str, internal_id: str, question: str) -> AsyncIterator[str]:
        for piece in ("You asked: ", question):
            yield piece

    async def enroll(self, part: str, photo: str, source: str, user: str) -> ReferenceInfo:
        references = self._references.setdefault(part, {})
        info = ReferenceInfo(reference_id=f"ref-{len(references) + 2}", part=part, source=source, enrolled=utc_now())
        references[info.reference_id] = info
        self._script.versions[part] = self._script.versions.get(part, 0) + 1
        return info

    async def retire(self, part: str, reference_id: str, user: str) -> ReferenceInfo:
        references = self._references.setdefault(part, {})
        if reference_id not in references:
            raise StationError(f"reference {reference_id!r}", f"one of {', '.join(references)}")
        references[reference_id] = references[reference_id].model_copy(update={"retired": utc_now()})
        self._script.versions[part] = self._script.versions.get(part, 0) + 1
        return references[reference_id]

    async def references(self, part: str) -> tuple[ReferenceInfo, ...]:
        return tuple(self._references.get(part, {}).values())

    async def reference_file(self, part: str, reference_id: str) -> Path | None:
        path = self._archive / "reference.jpg"
        self._archive.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
        return path

    async def close(self) -> None:
        pass


def scripted_config(tmp_path: Path, **station: object) -> StationConfig:
    """A station with recipes `lid` and `base` (part `base-7`) and a camera `top`; keywords go into its first table."""
    table = {"name": "cell-1", "data": str(tmp_path / "data"), "deadline": 5.0, **station}
    recipes = [
        {"id": "lid", "bundle": "scripted"},
        {"id": "base", "bundle": "scripted", "part": "base-7", "prepare": False},
    ]
    tables = {"station": table, "recipes": recipes, "retention": {"reserve_megabytes": 1}}
    camera = {"name": "top", "kind": "folder", "folder": str(tmp_path / "photos")}
    return StationConfig.model_validate({**tables, "cameras": [camera]})


def scripted_workers(
    config: StationConfig, script: Script, run_folder: Path
) -> tuple[ScriptedJudge, dict[str, ScriptedEye]]:
    """The inspector and the cameras of a station."""
    judge = ScriptedJudge(script, config.data, {table.id: table.part for table in config.recipes})
    eyes = {one.name: ScriptedEye(script, run_folder / SPOOL_NAME, one.name) for one in config.cameras}
    return judge, eyes


@asynccontextmanager
async def scripted_station(
    tmp_path: Path,
    script: Script | None = None,
    config: StationConfig | None = None,
    is_ready: bool = True,
    run_folder: Path | None = None,
    **kwargs: object,
) -> AsyncIterator[Station]:
    """A real station with scripted workers, by default in Ready with recipe `lid`; more keywords go to `Station`."""
    config, script = config or scripted_config(tmp_path), script or Script()
    run_folder = run_folder or tmp_path / "run"
    ledger = Ledger(config.data, config.retention.reserve_megabytes << 20)
    station = Station(config, ledger, run_folder, **kwargs)
    await station.start()
    judge, eyes = scripted_workers(config, script, run_folder)

    async def restart(name: str) -> None:
        script.restarts.append(name)

    station.crew.follow(restart)
    try:
        if is_ready:
            for name, eye in eyes.items():
                station.crew.join_eye(name, eye)
            station.crew.join_judge(judge)
            if config.station.is_automatic:
                await until(lambda: station.machine.state is State.READY)
        yield station
    finally:
        await station.close()


async def until(is_so: Callable[[], object], seconds: float = WAIT) -> None:
    """Wait for a condition; the test fails when it does not come."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "the station did not get there"
        await asyncio.sleep(0.005)


async def all_results(station: Station | StationClient) -> list:
    """Every stored result, by number."""
    found: list = []
    while more := await station.results(ResultQuery(after=found[-1].number if found else 0, limit=1000)):
        found.extend(more)
    return found


@contextmanager
def scripted_hub(
    tmp_path: Path, script: Script | None = None, config: StationConfig | None = None, run_folder: Path | None = None
) -> Iterator[Path]:
    """Serve a scripted station in a thread; yields the hub's socket. A socket's path is short: see `wire.serve`."""
    config, script = config or scripted_config(tmp_path), script or Script()
    run_folder = run_folder or tmp_path / "run"
    ready, ending, failed = threading.Event(), [], []

    async def serve() -> None:
        stop = asyncio.Event()
        ending.extend((asyncio.get_running_loop(), stop))
        async with serving_station(config, script, run_folder):
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(WAIT), "the hub did not start"
    try:
        if failed:
            raise failed[0]
        yield run_folder / "hub.sock"
    finally:
        if thread.is_alive():
            ending[0].call_soon_threadsafe(ending[1].set)
        thread.join(WAIT)
    assert not failed, failed


@asynccontextmanager
async def serving_station(config: StationConfig, script: Script, run_folder: Path) -> AsyncIterator[Station]:
    """A scripted station behind a real socket in this loop."""
    async with scripted_station(run_folder.parent, script, config, run_folder=run_folder) as station:
        service = Service(station, run_folder)
        await service.open()
        try:
            yield station
        finally:
            await service.close()


@asynccontextmanager
async def wired_workers(config: StationConfig, script: Script, run_folder: Path) -> AsyncIterator[None]:
    """The scripted inspector and cameras as real ends of the hub's socket, connected again whenever it is there."""
    judge, eyes = scripted_workers(config, script, run_folder)
    ends = [("inspector", "inspector", handlers_of_judge(judge))]
    ends += [("camera", name, handlers_of_eye(eye)) for name, eye in eyes.items()]
    tasks = [asyncio.create_task(_stay_connected(run_folder / SOCKET_NAME, *end)) for end in ends]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stay_connected(socket: Path, role: str, name: str, handlers: Handlers) -> None:
    while True:
        with suppress(LostError):
            peer, reading = await connect(socket, handlers)
            try:
                await peer.call("hello", role=role, name=name, pid=0)
                await reading
            finally:
                await peer.close()
        await asyncio.sleep(0.02)


def handlers_of_eye(eye: ScriptedEye) -> Handlers:
    """What a camera answers over the wire."""

    async def grab(job_id: str, timeout: float, after_ns: int) -> object:
        return (await eye.grab(job_id, timeout, after_ns)).model_dump(mode="json")

    async def live() -> str:
        return base64.b64encode(await eye.live()).decode()

    return {"grab": grab, "live": live}


def handlers_of_judge(judge: ScriptedJudge) -> Handlers:
    """What an inspector answers over the wire."""

    async def inspect(job_id: str, internal_id: str, spooled: dict[str, object]) -> AsyncIterator[object]:
        async for item in judge.inspect(job_id, internal_id, Spooled.model_validate(spooled)):
            yield {"outcome": item.model_dump(mode="json")} if isinstance(item, Outcome) else {"progress": item}

    async def ask(photo: str, internal_id: str, question: str) -> AsyncIterator[str]:
        async for piece in judge.ask(photo, internal_id, question):
            yield piece

    async def keep(job_id: str, result_id: str, decision: str) -> object:
        return _plain(await judge.keep(job_id, result_id, Decision(decision)))

    names = ("prepare", "unprepare", "enroll", "retire", "references", "reference_file")
    return {
        **{name: partial(_answer, getattr(judge, name)) for name in names},
        "inspect": inspect,
        "ask": ask,
        "keep": keep,
    }


async def _answer(method: Callable[..., object], **params: object) -> object:
    return _plain(await method(**params))


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
