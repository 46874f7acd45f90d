"""The first frame of a fresh process: `python -m judo_edge.bench.cold REQUEST` inspects one photo and prints what came.

The clock starts when the process is asked for, so the interpreter, imports, the check of the bundle's hashes and the
opening of the engine count. The store holds the enrolled reference and nothing that was computed from it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from judo_edge.bench.counting import CountingEngine, Pass, PassKind, Work
from judo_edge.bench.lane import Drafts, Looked
from judo_edge.bench.sources import Shot
from judo_edge.bundle import open_bundle
from judo_edge.config import Frozen
from judo_edge.core import Decision, Event, EventKind, Frame, Timing, Verdict
from judo_edge.errors import EngineError
from judo_edge.machine import resident_memory
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.photos import png_from_image
from judo_edge.runtime.references import ReferenceStore
from judo_edge.runtime.stopwatch import Stopwatch
from judo_edge.vision.photos import image_from_file

START, OPEN_BUNDLE, OPEN_ENGINE, PREPARE = "start", "open bundle", "open engine", "prepare"
"""The stages before the first frame's own."""


class Request(Frozen):
    """What a fresh process has to do."""

    bundle: Path
    engine: str
    threads: int
    drafts: Drafts
    accept_failed: tuple[str, ...]
    part: str
    photo: Path
    store: Path
    captured_ns: int
    """Monotonic clock when the process was asked for, nanoseconds."""


class Told(Frozen):
    """An event without its value."""

    kind: EventKind
    seconds: float
    num_passes: int


class FirstFrame(Frozen):
    """What a fresh process has to tell."""

    seconds: float
    """From the request to the verdict."""
    stages: dict[str, float]
    decision: Decision
    reason: str
    ids: tuple[int, ...]
    num_drafted: int
    num_accepted: int
    num_passes: int
    events: tuple[Told, ...]
    num_images: int
    passes: tuple[tuple[PassKind, int, int, int], ...]
    peak_rss_bytes: int


class Cold(NamedTuple):
    """A first frame as a bench counts it."""

    looked: Looked
    peak_rss_bytes: int


def first_frame(request: Request) -> FirstFrame:
    """Open everything, inspect the photo and return what came of it; the body of the fresh process."""
    watch = Stopwatch()
    watch.seconds[START] = (time.monotonic_ns() - request.captured_ns) * 1e-9
    with watch.stage(OPEN_BUNDLE):
        bundle = open_bundle(request.bundle)
    with ExitStack() as stack:
        with watch.stage(OPEN_ENGINE):
            inner = engine_from_bundle(bundle, request.engine, request.threads)
            engine = stack.enter_context(CountingEngine(inner))
        with watch.stage(PREPARE):
            references, accepted = ReferenceStore(request.store).photos(request.part), request.accept_failed
            inspector = Inspector(
                bundle, engine, references, accept_failed=accepted, is_drafting=request.drafts == "on"
            )
        return _first_look(request, inspector, engine, watch)


def _first_look(request: Request, inspector: Inspector, engine: CountingEngine, watch: Stopwatch) -> FirstFrame:
    with watch.stage("load"):
        image = image_from_file(request.photo)
    events: list[Event] = []
    engine.take()
    inspection = inspector.look(Frame("first", request.part, image, request.captured_ns), events.append)
    seconds, work = (time.monotonic_ns() - request.captured_ns) * 1e-9, engine.take()
    verdict = inspection.verdict
    return FirstFrame(
        seconds=seconds,
        stages={**watch.seconds, **verdict.timing.seconds},
        decision=verdict.decision,
        reason=verdict.reason,
        ids=inspection.ids,
        num_drafted=verdict.num_drafted,
        num_accepted=verdict.num_accepted,
        num_passes=verdict.num_passes,
        events=tuple(Told(kind=told.kind, seconds=told.seconds, num_passes=told.num_passes) for told in events),
        num_images=work.num_images,
        passes=tuple(work.passes),
        peak_rss_bytes=resident_memory()[1],
    )


class ColdProcesses:
    """Starts a fresh process for each first frame."""

    def __init__(self, bundle: Path, engine: str, threads: int, accept_failed: Sequence[str] = ()) -> None:
        """Name what every process opens."""
        self._common = {"bundle": bundle.resolve(), "engine": engine, "threads": threads}
        self._accept_failed = tuple(accept_failed)

    def look(self, shot: Shot, drafts: Drafts) -> Cold:
        """Inspect a shot in a fresh process with a fresh store; EngineError when the process fails."""
        with TemporaryDirectory(prefix="judo-edge-cold-") as name:
            folder = Path(name)
            ReferenceStore(folder / "store").enroll(shot.part, shot.reference.load(), "bench")
            (folder / "photo.png").write_bytes(png_from_image(shot.image))
            request = Request(
                **self._common,
                drafts=drafts,
                accept_failed=self._accept_failed,
                part=shot.part,
                photo=folder / "photo.png",
                store=folder / "store",
                captured_ns=time.monotonic_ns(),
            )
            first = self._first(request)
        return Cold(_looked(shot, first), first.peak_rss_bytes)

    def _first(self, request: Request) -> FirstFrame:
        command = [sys.executable, "-m", "judo_edge.bench.cold", request.model_dump_json()]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise EngineError(f"a fresh process ended with {done.returncode}: {reason}", action="run judo-edge inspect")
        return FirstFrame.model_validate_json(done.stdout.splitlines()[-1])


def _looked(shot: Shot, first: FirstFrame) -> Looked:
    """Return what the process told as if it had been looked at here; its events' values stayed there."""
    verdict = Verdict(
        frame_id=shot.name,
        part=shot.part,
        decision=first.decision,
        reason=first.reason,
        score=None,
        timing=Timing(first.stages),
        num_tokens=len(first.ids),
        num_passes=first.num_passes,
        num_drafted=first.num_drafted,
        num_accepted=first.num_accepted,
    )
    events = tuple(Event(told.kind, shot.name, told.seconds, told.num_passes, verdict) for told in first.events)
    work = Work(first.num_images, [Pass(*one) for one in first.passes])
    return Looked(first.seconds, (Inspection(verdict, ids=first.ids),), (events,), work, joules=None)


def main(arguments: Sequence[str]) -> int:
    """Do the request that the one argument holds as JSON and print the answer as JSON."""
    print(first_frame(Request.model_validate_json(arguments[0])).model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
