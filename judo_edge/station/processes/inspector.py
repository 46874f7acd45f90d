"""The inspector process: answers the hub's calls, with the model in one thread and the disk in two others.

The loop in the main thread only talks. When the hub goes away the process connects again, its engine still open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from judo_edge.errors import EngineError, StationError
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.references import ReferenceStore
from judo_edge.station.config import StationConfig
from judo_edge.station.judge.archive import Archive, decision_from_text
from judo_edge.station.judge.inspecting import Inspecting
from judo_edge.station.judge.lanes import Lane
from judo_edge.station.judge.prepared import Bench, EngineOf, Preparer
from judo_edge.station.judge.shelf import ReferenceShelf
from judo_edge.station.wire import Handlers, LostError, connect
from judo_edge.station.workers import SOCKET_NAME, SPOOL_NAME, Spooled

NAME = "inspector"
MAX_FAULTS = 3
"""Engine faults in a row after which the process ends, so that a new one opens the engine anew."""
_IN_TURN, _BETWEEN = 0, 1
"""Urgency in the model's thread: parts and recipes as they come, questions when no part waits."""
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0
"""Seconds between attempts to reach the hub."""
_PATIENCE = 3.0
"""Seconds that a call in the model's thread may still take when the process ends."""

_log = logging.getLogger(__name__)


async def run_inspector(config: StationConfig, run_folder: Path, engine_of: EngineOf = engine_from_bundle) -> None:
    """Serve the hub at `run_folder` until it says `end` or SIGTERM comes; `engine_of` makes a bundle's engine.

    Raises EngineError when the engine failed several times in a row: the process is then to be started again.
    """
    service = Service(config, run_folder, engine_of)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, RuntimeError):  # no signals but in the main thread
        loop.add_signal_handler(signal.SIGTERM, service.ending.set)
    serving = asyncio.create_task(_serve(run_folder / SOCKET_NAME, service))
    try:
        await service.ending.wait()
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        await service.close()
    if service.has_failed:
        raise EngineError(f"the engine failed {MAX_FAULTS} times in a row", "a working engine", "see the log")


class Service:
    """What the hub may call; each method's name is that of the wire."""

    def __init__(self, config: StationConfig, run_folder: Path, engine_of: EngineOf) -> None:
        """Start the threads; nothing is opened before a recipe is prepared."""
        self.ending = asyncio.Event()
        self.has_failed = False
        self._config = config
        self._model, self._disk, self._planning = Lane("model"), Lane("disk"), Lane("planning")
        self._preparer, self._bench = Preparer(config), Bench(config, engine_of)
        archive = Archive(config.archive, config.retention)
        self._inspecting = Inspecting(self._bench, archive, run_folder / SPOOL_NAME)
        self._shelf = ReferenceShelf(ReferenceStore(config.store))

    def handlers(self) -> Handlers:
        """Return the wire's methods."""
        names = (
            *("prepare", "unprepare", "inspect", "keep", "ask", "enroll", "retire", "references", "reference_file"),
            "end",
        )
        return {name: getattr(self, name) for name in names}

    async def prepare(self, external_id: str, internal_id: str = "") -> Any:
        """Read and verify in a thread of its own, while parts are inspected; then open and warm up."""
        plan = await self._planning.call(partial(self._preparer.plan, external_id, internal_id))
        return _record(await self._model.call(partial(self._bench.make_ready, plan), _IN_TURN))

    async def unprepare(self, internal_id: str) -> None:
        """Put a version away."""
        await self._model.call(partial(self._bench.unprepare, internal_id), _IN_TURN)

    async def inspect(self, job_id: str, internal_id: str, spooled: dict[str, Any]) -> AsyncIterator[Any]:
        """Stream progress and the outcome of a photo; several may be asked for at once, and are done in order."""
        photo = Spooled.model_validate(spooled)
        self._inspecting.expect(job_id, photo)
        try:
            work = partial(self._inspecting.inspect, job_id, internal_id, photo)
            async for item in self._model.stream(work, _IN_TURN):
                yield item
        finally:
            self._inspecting.forget(job_id)
            if self._inspecting.num_faults >= MAX_FAULTS:
                self.has_failed = True
                self.ending.set()

    async def keep(self, job_id: str, result_id: str, decision: str) -> Any:
        """Write a photo and its mask."""
        known = decision_from_text(decision)
        return _record(await self._disk.call(partial(self._inspecting.keep, job_id, result_id, known)))

    async def ask(self, photo: str, internal_id: str, question: str) -> AsyncIterator[str]:
        """Stream the answer to a question; of a version that is not ready the part's latest one answers."""

        def answer(emit: Any) -> None:
            try:
                prepared = self._bench.prepared(internal_id)
            except StationError:
                prepared = self._bench.of_part(self._preparer.part_of(internal_id))
            self._inspecting.ask(Path(photo), prepared, question, emit)

        async for piece in self._model.stream(answer, _BETWEEN):
            yield piece

    async def enroll(self, part: str, photo: str, source: str, user: str) -> Any:
        """Enrol a photo; what is prepared does not change by it."""
        _log.info("part %s: %s is enrolled by %s", part, source, user)
        return _record(await self._disk.call(partial(self._shelf.enroll, part, Path(photo), source)))

    async def retire(self, part: str, reference_id: str, user: str) -> Any:
        """Take a reference out of use; what is prepared does not change by it."""
        _log.info("part %s: reference %s is retired by %s", part, reference_id, user)
        return _record(await self._disk.call(partial(self._shelf.retire, part, reference_id)))

    async def references(self, part: str) -> Any:
        """List the references of a part."""
        return [_record(one) for one in await self._disk.call(partial(self._shelf.references, part))]

    async def reference_file(self, part: str, reference_id: str) -> str | None:
        """Return the path of a reference's photo."""
        path = await self._disk.call(partial(self._shelf.file, part, reference_id))
        return None if path is None else str(path)

    async def end(self) -> None:
        """Let the process end."""
        self.ending.set()

    async def close(self) -> None:
        """Close the engines, unless a call that does not return holds them."""
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self._model.call(self._bench.close), _PATIENCE)
        for lane in (self._model, self._disk, self._planning):
            lane.close()


async def _serve(socket: Path, service: Service) -> None:
    """Stay connected to the hub."""
    wait = _FIRST_WAIT
    while True:
        try:
            peer, reading = await connect(socket, service.handlers())
        except LostError:
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
            continue
        try:
            await peer.call("hello", role="inspector", name=NAME, pid=os.getpid())
            wait = _FIRST_WAIT
            await reading
            _log.warning("the hub has gone; connecting again")
        except StationError as error:
            _log.warning("the hub refuses: %s", error)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        finally:
            await peer.close()
            reading.cancel()


def _record(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_defaults=True)
