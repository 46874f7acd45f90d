"""A GigE Vision camera that is a process: libaravis's own simulator, on loopback, for tests of real streams.

The protocol has one fixed port, so a lock file lets one test use it at a time.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LOOPBACK = "127.0.0.1"
_LOCK = Path(tempfile.gettempdir()) / "judo-edge-gige-vision.lock"


def missing_aravis() -> str:
    """Say what is missing for the simulator; empty when nothing is."""
    try:
        ctypes.CDLL("libaravis-0.8.so.0")
    except OSError:
        return "libaravis-0.8 is not installed (apt install libaravis-0.8-0)"
    return ""


needs_aravis = pytest.mark.skipif(bool(missing_aravis()), reason=missing_aravis() or "it is there")


class SimulatedCamera:
    """The simulator's process, which may be stopped, killed and started again."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.process: subprocess.Popen[str] | None = None

    @property
    def device(self) -> str:
        return f"Aravis-Fake-{self.serial}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.gvcamera", self.serial]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "running"

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            if self.process.stdout:
                self.process.stdout.close()


@contextmanager
def simulated_camera(serial: str) -> Iterator[SimulatedCamera]:
    """Run the simulator under the machine's one lock; it is gone afterwards whatever happened."""
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        camera = SimulatedCamera(serial)
        camera.start()
        try:
            yield camera
        finally:
            camera.kill()


def _main(serial: str) -> None:
    library = ctypes.CDLL("libaravis-0.8.so.0")
    library.arv_gv_fake_camera_new.restype = ctypes.c_void_p
    library.arv_gv_fake_camera_new.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    library.arv_gv_fake_camera_is_running.argtypes = [ctypes.c_void_p]
    camera = library.arv_gv_fake_camera_new(LOOPBACK.encode(), serial.encode())
    if not library.arv_gv_fake_camera_is_running(camera):
        raise SystemExit("the simulator cannot bind its port")
    print("running", flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # it does not outlive the test, even one that was killed
        time.sleep(0.5)


if __name__ == "__main__":
    _main(sys.argv[1])
