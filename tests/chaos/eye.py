"""A drawn camera for a real camera process: bright photos are good parts, dark ones bad, and faults on demand."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.errors import CameraError, CameraFault
from judo_edge.runtime.sources.camera import Camera, Grabbed
from judo_edge.runtime.sources.health import Guarded
from judo_edge.runtime.sources.reconnect import Backoff, Reconnecting
from judo_edge.station.camera.service import CameraService
from tests.chaos.control import note_truth, read_control

GOOD, BAD = 200, 40
"""Brightness of the two kinds of part."""
BAD_SHARE = 0.3


class DrawnCamera(Camera):
    """Draws a part for every grab, with a sensor's noise."""

    def __init__(self, run_folder: Path) -> None:
        self._run_folder, self._number = run_folder, 0
        self._rng = random.Random(time.time_ns())
        self._last: np.ndarray | None = None
        self.kind = ""
        """What the last photo shows: good or bad, and the fault that went with it."""

    def open(self) -> None:
        self.check()

    def check(self) -> None:
        if read_control(self._run_folder).get("camera") == "unplugged":
            raise CameraError(CameraFault.UNPLUGGED, "the camera was unplugged")

    def grab(self, timeout: float) -> Grabbed:
        self.check()
        fault = read_control(self._run_folder).get("camera", "")
        while fault == "hang" and read_control(self._run_folder).get("camera") == "hang":
            time.sleep(0.1)
        self._number += 1
        captured_ns = time.monotonic_ns()
        if fault == "frozen" and self._last is not None:
            self.kind = "frozen"
            return Grabbed(self._last, captured_ns, self._number)
        is_bad = self._rng.random() < BAD_SHARE
        self.kind = "corrupt" if fault == "corrupt" else "bad" if is_bad else "good"
        self._last = photo(is_bad, self._rng.getrandbits(32))
        return Grabbed(self._last, captured_ns, self._number)

    def close(self) -> None:
        pass


class ChaosService(CameraService):
    """A camera's service that writes down which part each job's photo shows, and breaks files on demand."""

    def __init__(self, run_folder: Path, camera: DrawnCamera, *args: Any, **options: Any) -> None:
        guarded = Reconnecting(Guarded(camera, frozen_after=2), Backoff(0.1, 1.0))
        super().__init__(guarded, *args, **options)
        self._run_folder, self._camera, self._lock = run_folder, camera, threading.Lock()

    async def grab(self, job_id: str, timeout: float, after_ns: int) -> dict[str, Any]:
        record = await super().grab(job_id, timeout, after_ns)
        note_truth(self._run_folder, job_id=job_id, kind=self._camera.kind)
        if self._camera.kind == "corrupt":
            file = self._run_folder / "spool" / record["file"]
            file.write_bytes(file.read_bytes()[:-100])
        return record


def photo(is_bad: bool, seed: int) -> np.ndarray:
    """Draw a part, (64, 64, 3) uint8."""
    noise = np.random.default_rng(seed).integers(-20, 21, (64, 64, 3))
    return (noise + (BAD if is_bad else GOOD)).astype(np.uint8)
