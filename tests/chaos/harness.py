"""One run: triggers and photos on one side, faults at random on the other, and what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path

from PIL import Image

from judo_edge.errors import StationError
from judo_edge.station.results import JobRequest
from judo_edge.station.states import State
from tests.chaos.checks import Run
from tests.chaos.control import read_truth, write_control
from tests.chaos.eye import BAD_SHARE, photo
from tests.chaos.faults import Fault
from tests.chaos.station import ChaosStation

PHOTO_SHARE = 0.2
"""Parts that come as photos in the folder, beside the triggers."""
CALL_SECONDS = 5.0
PACE_SECONDS = 0.1
QUIET_SECONDS = (0.2, 1.0)
"""Between two faults."""


class Harness:
    """Runs a station through so many triggers."""

    def __init__(self, station: ChaosStation, faults: dict[str, Fault], seed: int) -> None:
        """Take a station that was not started."""
        self.station, self._faults = station, faults
        self._rng, self._fault_rng = random.Random(seed), random.Random(seed + 1)
        self.run_facts = Run(data=station.folder / "data")
        self.num_faults: Counter[str] = Counter()
        self._now = ""

    async def run(self, num_triggers: int) -> Run:
        """Trigger, harm, let it recover, and gather every result. TimeoutError when the station does not come back."""
        self.station.start()
        await self.station.until_ready()
        harming = asyncio.create_task(self._harm())
        keeping = asyncio.create_task(self._keep_running())
        try:
            for number in range(num_triggers):
                self._drop_photo(number)
                await self._trigger(f"k{number}")
                await asyncio.sleep(self._rng.uniform(0, 2 * PACE_SECONDS))
        finally:
            harming.cancel()
            keeping.cancel()
            await asyncio.gather(harming, keeping, return_exceptions=True)
        await self._recovered()
        self.run_facts.results = await self.station.all_results()
        self.run_facts.truth = list(read_truth(self.station.run_folder))
        return self.run_facts

    async def _trigger(self, key: str) -> None:
        """Trigger one part; asked again with the same key until it is accepted, as a PLC would."""
        request = JobRequest(camera="top", part_id=key, key=key)
        self.run_facts.during[key] = self._now
        while (job_id := await self._accepted(request)) is None:
            self.run_facts.during[key] = self.run_facts.during[key] or self._now
            await asyncio.sleep(0.1)
        self.run_facts.jobs[key] = job_id

    async def _accepted(self, request: JobRequest) -> str | None:
        try:
            return (await asyncio.wait_for(self.station.client.trigger(request), CALL_SECONDS)).job_id
        except StationError as error:
            if error.number > -90:  # refused, such as in Error
                return None
        except (OSError, asyncio.TimeoutError):
            pass
        await self.station.begin_anew()
        return None

    def _drop_photo(self, number: int) -> None:
        if self._rng.random() > PHOTO_SHARE:
            return
        part_id, is_broken = f"p{number}", self._rng.random() < 0.1
        is_bad = self._rng.random() < BAD_SHARE
        beside, path = self.station.inbox / f".{part_id}", self.station.inbox / f"{part_id}.png"
        Image.fromarray(photo(is_bad, number)).save(beside, "PNG")
        if is_broken:
            beside.write_bytes(beside.read_bytes()[:200])
        beside.rename(path)
        self.run_facts.photos[part_id] = "broken" if is_broken else "bad" if is_bad else "good"

    async def _harm(self) -> None:
        names: list[str] = []
        while True:
            await asyncio.sleep(self._fault_rng.uniform(*QUIET_SECONDS))
            if not names:
                names = self._fault_rng.sample(list(self._faults), len(self._faults))
            self._now = names.pop()
            self.num_faults[self._now] += 1
            await self._faults[self._now](self.station, self._fault_rng)
            await asyncio.sleep(0.3)
            self._now = ""

    async def _keep_running(self) -> None:
        while True:
            self.station.keep_running()
            await asyncio.sleep(0.5)

    async def _recovered(self) -> None:
        """Lift every fault and wait until the station is Ready by itself, without a part that waits."""
        write_control(self.station.run_folder, camera="", engine="")
        with contextlib.suppress(FileNotFoundError):
            Path(self.run_facts.data / "fill").unlink()
        folder = self.station.inbox

        def is_back(status) -> bool:  # type: ignore[no-untyped-def]
            return status.state is State.READY and not status.num_waiting and not list(folder.glob("*.png"))

        await self.station.until(is_back, 180.0)
