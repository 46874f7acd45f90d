"""A station in memory: `StationApi` with scripted verdicts and drawn photos, for tests of façades.

`python -m tests.memory_station FOLDER` serves the web page over it and prints the address.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.results import (
    Cells,
    Code,
    Condition,
    Counters,
    EventKind,
    Job,
    JobRequest,
    ProcessHealth,
    Recipe,
    ReferenceInfo,
    Result,
    ResultQuery,
    ResultState,
    Severity,
    StationEvent,
    Status,
    utc_now,
)
from judo_edge.station.states import State
from judo_edge.station.wire import LostError

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
SCRATCH = tuple((row, col) for row, col in zip(range(5, 12), (4, 5, 5, 6, 7, 7, 8), strict=True))


def draw_part(path: Path, has_scratch: bool) -> Path:
    """Draw a lid with holes, scratched or not."""
    photo = Image.new("RGB", (960, 720), (52, 58, 64))
    pen = ImageDraw.Draw(photo)
    pen.rounded_rectangle((140, 80, 820, 640), 60, (148, 156, 160), (205, 210, 212), 6)
    pen.ellipse((360, 240, 600, 480), (70, 76, 82), (210, 214, 216), 8)
    for x, y in itertools.product((220, 740), (160, 560)):
        pen.ellipse((x - 34, y - 34, x + 34, y + 34), (40, 44, 48), (210, 214, 216), 5)
    if has_scratch:
        pen.line((200, 200, 300, 330, 350, 420, 470, 520), (236, 238, 240), 7, "curve")
    photo.save(path)
    return path


class MemoryStation:
    """Says what `script` says, in turn."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        self.folder, self.seconds = folder, seconds
        folder.mkdir(parents=True, exist_ok=True)
        self.photos = {False: draw_part(folder / "good.png", False), True: draw_part(folder / "bad.png", True)}
        self.script: list[Decision] = [Decision.NOK]
        self.calls: list[tuple[Any, ...]] = []
        self.stored: list[Result] = []
        self.queues: set[asyncio.Queue[StationEvent | None]] = set()
        self.numbers = itertools.count(1)
        self.state = State.READY
        self.conditions: tuple[Condition, ...] = ()
        self.is_away = False
        self.beat = 0
        self.answer: tuple[str, ...] = ("The scratch ", "crosses the ", "lower left corner.")
        self.enrolled = [
            ReferenceInfo(reference_id="a1" * 16, part="lid-7", source="golden_01.png", enrolled=utc_now()),
            ReferenceInfo(reference_id="b2" * 16, part="lid-7", source="golden_02.png", enrolled=utc_now()),
        ]
        self.files = {one.reference_id: self.photos[False] for one in self.enrolled}
        digest = "c0ffee" * 10 + "beef"
        self.versions = [
            Recipe(
                external_id="lid-7",
                internal_id=name * 16,
                part="lid-7",
                bundle="judo-nano",
                bundle_digest=digest,
                references_digest=digest,
                reference_ids=("a1" * 16,),
                decision_version=version,
                signer="quality@plant",
                created=utc_now(),
                is_prepared=version == 3,
            )
            for name, version in (("9f", 3), ("3c", 2))
        ]

    def _check(self) -> None:
        if self.is_away:
            raise LostError("the station")

    def tell(self, kind: EventKind, **data: Any) -> None:
        event = StationEvent(number=next(self.numbers), kind=kind, at=utc_now(), data=data)
        for queue in self.queues:
            queue.put_nowait(event)

    def go_away(self) -> None:
        self.is_away = True
        for queue in self.queues:
            queue.put_nowait(None)

    async def heart(self, pause: float = 1.0) -> None:
        while True:
            if not self.is_away:
                self.beat += 1
                self.tell(EventKind.HEARTBEAT, **(await self.status()).model_dump(mode="json", exclude_defaults=True))
            await asyncio.sleep(pause)

    async def status(self) -> Status:
        self._check()
        count = {one: sum(result.decision is one for result in self.stored) for one in Decision}
        times = sorted(result.total_seconds for result in self.stored) or [0.0]
        return Status(
            station="press-4",
            state=self.state,
            recipes=tuple(one for one in self.versions if one.is_prepared),
            counters=Counters(
                triggers=len(self.stored),
                ok=count[Decision.OK],
                nok=count[Decision.NOK],
                not_decidable=count[Decision.NOT_DECIDABLE],
            ),
            processes=(
                ProcessHealth(name="inspector", role="inspector", state="ready", since=utc_now()),
                ProcessHealth(name="top", role="camera", state="ready", restarts=1, detail="USB camera"),
            ),
            conditions=self.conditions,
            challenge={"lid-7": "passed"},
            latency={"p50": times[len(times) // 2], "p99": times[-1], "max": times[-1]},
            last_number=len(self.stored),
            heartbeat=self.beat,
        )

    async def halt(self, cause: int, description: str) -> None:
        self.calls.append(("halt", cause, description))
        self._move(State.HALTED)

    async def reset(self, cause: int, description: str) -> None:
        self.calls.append(("reset", cause, description))
        self._move(State.PREOPERATIONAL)

    async def select_automatic(self) -> None:
        self.calls.append(("select_automatic",))
        self._move(State.READY)

    def _move(self, state: State) -> None:
        self._check()
        self.state = state
        self.tell(EventKind.TRANSITION, name="", number=0, source="", target=state.value, command="")

    async def confirm_all(self, comment: str, user: str = "") -> None:
        self.calls.append(("confirm_all", comment, user))
        self.conditions = ()

    async def simulate(self, is_on: bool) -> None:
        self.calls.append(("simulate", is_on))

    async def recipes(self) -> tuple[Recipe, ...]:
        self._check()
        return tuple(self.versions)

    async def prepare(self, external_id: str, internal_id: str = "") -> Recipe:
        self.calls.append(("prepare", external_id, internal_id))
        internal_id = internal_id or self.versions[0].internal_id
        self.versions = [
            one.model_copy(update={"is_prepared": one.internal_id == internal_id}) for one in self.versions
        ]
        return next(one for one in self.versions if one.is_prepared)

    async def unprepare(self, external_id: str) -> Recipe:
        self.calls.append(("unprepare", external_id))
        return self.versions[0]

    async def start_single(self, request: JobRequest) -> Job:
        return await self.trigger(request)

    async def start_continuous(self, request: JobRequest) -> Job:
        return await self.trigger(request)

    async def trigger(self, request: JobRequest) -> Job:
        self._check()
        if self.state is not State.READY:
            raise StationError(f"the station is {self.state.value}", "Ready", "wait", -10)
        self.calls.append(("trigger", request))
        number = len(self.stored) + 1
        job = Job(job_id=f"job-{number}", request=request, recipe_id="9f" * 16, created=utc_now(), deadline=2.0)
        self.tell(EventKind.JOB_STARTED, job_id=job.job_id, part_id=request.part_id)
        decision = self.script[(number - 1) % len(self.script)]
        if self.seconds:
            asyncio.get_running_loop().create_task(self._later(job, decision))
        else:
            self.finish(job, decision)
        return job

    async def _later(self, job: Job, decision: Decision) -> None:
        await asyncio.sleep(self.seconds / 2)
        self.tell(EventKind.PROGRESS, job_id=job.job_id, event="verdict?", value=decision.value)
        if decision is Decision.NOK:
            self.tell(EventKind.PROGRESS, job_id=job.job_id, event="cells", value=[list(one) for one in SCRATCH[:4]])
        await asyncio.sleep(self.seconds / 2)
        self.finish(job, decision)

    def finish(self, job: Job, decision: Decision, **more: Any) -> Result:
        """Store a result and tell of it, then of its photo."""
        number = len(self.stored) + 1
        is_bad = decision is Decision.NOK
        reason = {
            Decision.OK: "nothing differs from the reference",
            Decision.NOK: "a bright scratch runs from the upper left to the bore",
            Decision.NOT_DECIDABLE: "the camera delivered no photo within 0.5 s",
        }[decision]
        is_seen = decision is not Decision.NOT_DECIDABLE
        fields: dict[str, Any] = {
            "number": number,
            "result_id": f"r-{number:06d}",
            "job_id": job.job_id,
            "state": ResultState.COMPLETED,
            "decision": decision,
            "code": Code.INSPECTED if is_seen else Code.CAMERA_TIMEOUT,
            "reason": reason,
            "part": "lid-7",
            "part_id": job.request.part_id,
            "external_recipe_id": "lid-7",
            "internal_recipe_id": "9f" * 16,
            "bundle_digest": "c0ffee" * 10 + "beef",
            "reference_id": "a1" * 16 if is_seen else "",
            "score": (3.4 if is_bad else -1.2 - 0.1 * (number % 7)) if is_seen else None,
            "threshold": 0.8 if is_seen else None,
            "judo": decision if is_seen else None,
            "evidence": {"first_mask_token": 3.4, "cell_probe": 1.9} if is_bad else {},
            "mask": Cells(rows=16, cols=16, cells=SCRATCH if is_bad else ()) if is_seen else None,
            "reply": "<seg>...</seg><think>scratch</think><answer>A</answer>" if is_bad else "",
            "seconds": {"grab": 0.021, "inspect": 0.31} if is_seen else {},
            "created": utc_now(),
            "triggered": utc_now(),
            "total_seconds": (0.34 + 0.02 * (number % 5)) if is_seen else 0.5,
            "origin": job.request.origin,
        }
        result = Result(**{**fields, **more})
        self.stored.append(result)
        self.tell(EventKind.RESULT, **result.model_dump(mode="json", exclude_defaults=True))
        if is_seen:
            kept = result.model_copy(update={"photo": f"{result.result_id}.png"})
            self.stored[-1] = kept
            self.tell(EventKind.EVIDENCE, result_id=result.result_id, photo=kept.photo, mask_file="")
        return result

    async def stop(self, cause: int, description: str) -> None:
        self.calls.append(("stop", cause, description))

    async def abort(self, cause: int, description: str) -> None:
        self.calls.append(("abort", cause, description))

    async def results(self, query: ResultQuery) -> tuple[Result, ...]:
        self._check()
        found = [one for one in self.stored if one.number > query.after]
        found = [one for one in found if query.decision in (None, one.decision)]
        found = [one for one in found if not (query.is_unreviewed and one.review)]
        found = [one for one in found if query.part_id in ("", one.part_id)]
        return tuple((found[::-1] if query.newest_first else found)[: query.limit])

    async def result(self, result_id: str) -> Result | None:
        self._check()
        return next((one for one in self.stored if one.result_id == result_id), None)

    async def acknowledge(self, sink: str, result_ids: Sequence[str]) -> tuple[bool, ...]:
        self.calls.append(("acknowledge", sink, tuple(result_ids)))
        return tuple([await self.result(one) is not None for one in result_ids])

    async def unacknowledged(self, sink: str, limit: int = 100) -> tuple[Result, ...]:
        return tuple(self.stored[:limit])

    async def archive_file(self, result_id: str, kind: str) -> Path | None:
        result = await self.result(result_id)
        if result is None or not result.photo:
            return None
        return self.photos[kind == "photo" and result.decision is Decision.NOK]

    async def events(self) -> AsyncIterator[StationEvent]:
        self._check()
        queue: asyncio.Queue[StationEvent | None] = asyncio.Queue()
        self.queues.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self.queues.discard(queue)

    async def review(self, result_id: str, decision: str, user: str, note: str = "") -> Result:
        self.calls.append(("review", result_id, decision, user, note))
        for index, one in enumerate(self.stored):
            if one.result_id == result_id:
                self.stored[index] = one.model_copy(update={"review": decision})
                self.tell(EventKind.REVIEW, result_id=result_id, decision=decision, user=user, note=note)
                return self.stored[index]
        raise StationError(f"there is no result {result_id!r}", number=-20)

    async def references(self, part: str) -> tuple[ReferenceInfo, ...]:
        self._check()
        return tuple(one for one in self.enrolled if one.part == part)

    async def enroll(self, part: str, photo: Path, source: str, user: str) -> ReferenceInfo:
        self.calls.append(("enroll", part, source, user))
        info = ReferenceInfo(reference_id=f"{len(self.enrolled):032x}", part=part, source=source, enrolled=utc_now())
        self.files[info.reference_id] = self.folder / f"{info.reference_id}.png"
        await asyncio.to_thread(shutil.copyfile, photo, self.files[info.reference_id])
        self.enrolled.append(info)
        self.tell(EventKind.REFERENCES, part=part, reference_id=info.reference_id, change="enrolled", user=user)
        return info

    async def retire(self, part: str, reference_id: str, user: str) -> ReferenceInfo:
        self.calls.append(("retire", part, reference_id, user))
        index = [one.reference_id for one in self.enrolled].index(reference_id)
        self.enrolled[index] = self.enrolled[index].model_copy(update={"retired": utc_now()})
        return self.enrolled[index]

    async def reference_file(self, part: str, reference_id: str) -> Path | None:
        return self.files.get(reference_id)

    async def ask(self, result_id: str, question: str) -> AsyncIterator[str]:
        self.calls.append(("ask", result_id, question))
        for piece in self.answer:
            await asyncio.sleep(0.02)
            yield piece

    async def challenge(self, external_id: str) -> None:
        self.calls.append(("challenge", external_id))

    async def live(self, camera: str) -> bytes:
        return b""


def warning(name: str = "camera.top", text: str = "no photo for 2 s") -> Condition:
    return Condition(name=name, severity=Severity.ERROR, code=121, text=text, since=utc_now())


async def serve(folder: Path) -> None:
    """Serve the page: `eva` (engineer) and `ole` (operator), password `correct horse`; commands on standard input."""
    from judo_edge.station.processes.web import serve as serve_page
    from judo_edge.station.processes.web import server_from_desk
    from judo_edge.station.users import Role, UserStore
    from judo_edge.station.web.app import app_from_desk, desk_from_station
    from judo_edge.station.web.settings import WebSettings

    station = MemoryStation(folder / "station", seconds=0.4)
    users = UserStore(folder / "users.json")
    with contextlib.suppress(Exception):
        users.add("eva", "correct horse", Role.ENGINEER)
        users.add("ole", "correct horse", Role.OPERATOR)
    names = frozenset({"127.0.0.1", "localhost"})
    desk = desk_from_station(station, users, WebSettings("127.0.0.1", 0, names, folder / "uploads"))
    beating = asyncio.create_task(station.heart())
    listening = asyncio.create_task(_obey(station))
    try:
        await serve_page(desk, server_from_desk(desk, app_from_desk(desk)), folder)
    finally:
        beating.cancel()
        listening.cancel()


async def _obey(station: MemoryStation) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().split(maxsplit=1):
        word, rest = line[0], (line[1].strip() if len(line) > 1 else "")
        if word == "script":
            station.script = [Decision(one) for one in rest.split()]
        elif word == "away":
            station.go_away()
        elif word == "back":
            station.is_away = False
        elif word == "warn":
            station.conditions = (warning(text=rest),) if rest else ()
        elif word == "pause":
            station.seconds = float(rest)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
