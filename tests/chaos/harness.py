"""One run: triggers and photos on one side, faults at random on the other, and what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import urllib.request
from collections import Counter
from pathlib import Path

from PIL import Image

from judo_edge.errors import StationError
from judo_edge.station.opcua import SINK
from judo_edge.station.results import JobRequest, Status
from judo_edge.station.states import State
from tests.chaos.checks import Run
from tests.chaos.control import read_truth, write_control
from tests.chaos.faults import Fault
from tests.chaos.line import Line
from tests.chaos.memory import Memory
from tests.chaos.parts import Parts
from tests.chaos.plan import CALL_SECONDS, PHOTO_SHARE, QUIET_SECONDS, SURELY_REFUSED, Clock, Pace
from tests.chaos.station import ChaosStation


class Harness:
    """Runs a station through so many triggers."""

    def __init__(self, station: ChaosStation, line: Line, faults: dict[str, Fault], seed: int, pace: Pace) -> None:
        """Take a station that was not started, and the PLC beside it."""
        self.station, self._line, self._faults, self._pace = station, line, faults, pace
        self._rng, self._fault_rng = random.Random(seed), random.Random(seed + 1)
        self._parts = Parts(station.folder, seed + 2)
        self.run_facts = Run(data=station.folder / "data")
        self.num_faults: Counter[str] = Counter()
        self.memory = Memory()
        self.problems: list[str] = []
        self._now = ""
        self._intervals: list[tuple[str, float, float]] = []

    async def run(self, num_triggers: int) -> Run:
        """Trigger, harm, let it recover, and gather every result. TimeoutError when the station does not come back."""
        self.station.start()
        await self.station.until_ready()
        await self._line.start()
        beside = [asyncio.create_task(one) for one in (self._harm(), self._keep_running(), self._watch_memory())]
        try:
            await self._trigger_all(num_triggers)
            while not self._line.is_done():
                await asyncio.sleep(0.5)
        finally:
            for task in beside:
                task.cancel()
            ended = await asyncio.gather(*beside, return_exceptions=True)
            self.problems += [f"the harness: {one!r}" for one in ended if isinstance(one, Exception)]
        await self._ended()
        return self.run_facts

    # -- triggers and photos -------------------------------------------------------------------------------------------
    async def _trigger_all(self, num_triggers: int) -> None:
        """Trigger at the pace, several callers side by side where answers take long."""
        clock = Clock(self._pace.seconds, self._rng)
        free, tasks = asyncio.Semaphore(self._pace.callers), set[asyncio.Task[None]]()
        for number in range(num_triggers):
            self._drop_photo(number)
            await free.acquire()
            task = asyncio.create_task(self._trigger(f"k{number}"))
            tasks.add(task)
            task.add_done_callback(lambda done: (free.release(), tasks.discard(done)))
            await clock.next()
        await asyncio.gather(*tasks)

    async def _trigger(self, key: str) -> None:
        """Trigger one part; asked again with the same key until it is accepted, as a PLC would."""
        request = JobRequest(camera="top", part_id=key, key=key)
        self.run_facts.during[key] = self._now
        while (job_id := await self._accepted(request)) is None:
            self.run_facts.during[key] = self.run_facts.during[key] or self._now
            await asyncio.sleep(0.1)
        self.run_facts.jobs[key] = job_id

    async def _accepted(self, request: JobRequest) -> str | None:
        client = self.station.client
        try:
            return (await asyncio.wait_for(client.trigger(request), CALL_SECONDS)).job_id
        except StationError as error:
            if error.number > SURELY_REFUSED:  # such as in Error
                return None
        except (OSError, asyncio.TimeoutError):
            pass
        await self.station.begin_anew(client)
        return None

    def _drop_photo(self, number: int) -> None:
        if self._rng.random() > PHOTO_SHARE:
            return
        part_id, is_broken = f"p{number}", self._rng.random() < 0.1
        kind, image = self._parts.next()
        beside, path = self.station.inbox / f".{part_id}", self.station.inbox / f"{part_id}.png"
        Image.fromarray(image).save(beside, "PNG")
        if is_broken:
            beside.write_bytes(beside.read_bytes()[:200])
        beside.rename(path)
        self.run_facts.photos[part_id] = "broken" if is_broken else kind
        self.run_facts.during[part_id] = self._now

    # -- what goes on beside -------------------------------------------------------------------------------------------
    async def _harm(self) -> None:
        names: list[str] = []
        while True:
            await asyncio.sleep(self._fault_rng.uniform(*QUIET_SECONDS))
            if not names:
                names = self._fault_rng.sample(list(self._faults), len(self._faults))
            self._now = names.pop()
            began = time.monotonic()
            self.num_faults[self._now] += await self._faults[self._now](self.station, self._fault_rng)
            await asyncio.sleep(0.3)
            self._intervals.append((self._now, began, time.monotonic()))
            self._now = ""

    async def _keep_running(self) -> None:
        while True:
            self.station.keep_running()
            await asyncio.sleep(0.5)

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(2.0)
            status, now = await self.station.status(), time.monotonic()
            for one in status.processes if status else ():
                if one.pid and one.state == "ready":
                    self.memory.look(one.name, one.pid, now)
            if self.station.supervisor is not None:
                self.memory.look("supervisor", self.station.supervisor.pid, now)

    # -- the end -------------------------------------------------------------------------------------------------------
    async def _ended(self) -> None:
        """Let everything recover, let the PLC take all, and gather what is stored."""
        await self._recovered()
        self.problems += await self._line.finish()
        await self._recovered()
        facts, client = self.run_facts, self.station.client
        facts.results = await self.station.all_results()
        facts.truth = list(read_truth(self.station.run_folder))
        facts.journal = self._line.journal()
        facts.unacknowledged = len(await client.unacknowledged(SINK, 1000))
        for part_id, moment in facts.journal.at.items():
            facts.during[part_id] = self._fault_at(moment)
        await self._web_answers()

    def _fault_at(self, moment: float) -> str:
        return next((name for name, began, ended in self._intervals if began <= moment <= ended), "")

    async def _web_answers(self, seconds: float = 30.0) -> None:
        url, end = f"http://127.0.0.1:{self.station.web_port}/", time.monotonic() + seconds
        while True:
            try:
                await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).close())
                return
            except OSError as error:
                if time.monotonic() > end:
                    self.problems.append(f"the web page does not answer: {error}")
                    return
            await asyncio.sleep(0.5)

    async def _recovered(self) -> None:
        """Lift every fault and wait until the station is Ready by itself, without a part that waits."""
        write_control(self.station.run_folder, camera="", engine="")
        with contextlib.suppress(FileNotFoundError):
            Path(self.run_facts.data / "fill").unlink()
        folder = self.station.inbox

        def is_back(status: Status) -> bool:
            is_ready = {one.state for one in status.processes} == {"ready"}
            return status.state is State.READY and not status.num_waiting and not [*folder.glob("*.png")] and is_ready

        await self.station.until(is_back, 180.0)
