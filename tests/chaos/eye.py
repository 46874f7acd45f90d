"""A camera of drawn parts for a real camera process, with faults on demand."""

from __future__ import annotations

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
from tests.chaos.parts import Parts


class DrawnCamera(Camera):
    """Shows a part for every grab."""

    def __init__(self, run_folder: Path) -> None:
        self._run_folder, self._number = run_folder, 0
        self._parts = Parts(run_folder.parent, time.time_ns())
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
        kind, self._last = self._parts.next()
        self.kind = "corrupt" if fault == "corrupt" else kind
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
