"""A camera whose driver blocks: a thread reads it without end, and frames wait for the one who asks.

For drivers that buffer frames, that may never return from a read, and that no other thread may touch. Knows no driver.
"""

from __future__ import annotations

import statistics
import threading
import time
from abc import abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from judo_edge.core import Image
from judo_edge.errors import CameraError, CameraFault, JudoEdgeError, first_line
from judo_edge.runtime.sources.camera import Camera, Grabbed
from judo_edge.runtime.sources.waiting import WaitingFrames, WaitingPolicy

DeviceT = TypeVar("DeviceT")
Pixels = npt.NDArray[np.uint8]
_GIVE_UP_CLOSING = 2.0
_PACE_OF, _PACE_FROM = 32, 8


@dataclass(frozen=True)
class _Raw:
    """A frame as the driver gave it."""

    pixels: Pixels
    began_ns: int
    """Monotonic clock when its read began."""
    number: int
    is_live: bool
    """The read had to wait for it: it did not stand in a buffer."""


@dataclass
class _Run:
    """One opening of the device: what the thread and the asker share."""

    frames: WaitingFrames[_Raw]
    opened: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)
    is_open: bool = False
    error: JudoEdgeError | None = None
    thread: threading.Thread | None = None


class ThreadedCamera(Camera, Generic[DeviceT]):
    """Reads a device of type `DeviceT` in a daemon thread; a subclass says how to connect, read and let go."""

    def __init__(
        self, name: str, policy: WaitingPolicy, capacity: int, fresh: bool, skip_frames: int, open_timeout: float
    ) -> None:
        """Nothing is opened.

        `fresh`: a frame counts only when its read began after the call of `grab` and had to wait, so that a driver's
        buffer is not taken for the camera; for `warm_up` seconds after the opening none counts, as streams begin with
        a backlog. `skip_frames` more are let pass then, for streams with delay. Without `fresh`, frames come in order
        as the policy kept them. `open_timeout` is in seconds.
        """
        self.name, self.policy, self.capacity, self._fresh = name, policy, capacity, fresh
        self.skip_frames, self.open_timeout, self.warm_up = skip_frames, open_timeout, 0.0
        self._run: _Run | None = None

    @property
    def fresh(self) -> bool:
        """Tell whether frames are captured after the call."""
        return self._fresh

    @abstractmethod
    def _connect(self) -> DeviceT:
        """Open the device; CameraError or another JudoEdgeError when that fails. Runs in the thread."""

    @abstractmethod
    def _read(self, device: DeviceT) -> Pixels:
        """Wait for the next frame; CameraError when there will be none. Runs in the thread."""

    @abstractmethod
    def _disconnect(self, device: DeviceT) -> None:
        """Let go of the device. Runs in the thread."""

    @abstractmethod
    def _rgb(self, pixels: Pixels) -> Image:
        """Return RGB pixels of a frame that is given out."""

    def open(self) -> None:
        """Start the thread and wait for a first frame; CameraError when none comes within `open_timeout`."""
        self.close()
        run = self._run = _Run(WaitingFrames(self.policy, self.capacity))
        run.thread = threading.Thread(target=self._work, args=(run,), daemon=True, name=f"frames of {self.name}")
        run.thread.start()
        if not run.opened.wait(self.open_timeout):
            self.close()
            raise CameraError(CameraFault.TIMEOUT, f"{self.name} gave no frame within {self.open_timeout:g} s")
        if not run.is_open:
            self.close()
            raise run.error or self._gone("gave no frame")

    def grab(self, timeout: float) -> Grabbed:
        """Return the next frame that counts; CameraError: timeout, or what ended the reading."""
        run, called_ns = self._running(), time.monotonic_ns()
        missed, to_skip = 0, self.skip_frames if self.fresh else 0
        while taken := run.frames.take(timeout - (time.monotonic_ns() - called_ns) / 1e9):
            raw, gap = taken
            counts = not self.fresh or (raw.began_ns >= called_ns and raw.is_live)
            if counts and not to_skip:
                self.num_dropped += gap
                return Grabbed(self._rgb(raw.pixels), raw.began_ns, raw.number, missed=missed + gap)
            to_skip -= counts
            missed += gap + 1
            self.num_dropped += gap + 1
        raise run.error or CameraError(CameraFault.TIMEOUT, f"no frame from {self.name} within {timeout:g} s")

    def check(self) -> None:
        """Raise what ended the reading, when no frame waits any more."""
        run = self._running()
        if run.error and not len(run.frames):
            raise run.error

    def close(self) -> None:
        """Stop the thread; one that is caught in the driver is left behind, and lets go of the device in the end."""
        run, self._run = self._run, None
        if run and run.thread:
            run.stopped.set()
            run.frames.close()
            self._interrupt()
            run.thread.join(_GIVE_UP_CLOSING)

    def _interrupt(self) -> None:
        """Make a blocked read return, where the driver allows it."""

    def _running(self) -> _Run:
        if self._run is None:
            raise CameraError(CameraFault.UNPLUGGED, f"{self.name} is not open", "an open camera", "open it first")
        return self._run

    def _work(self, run: _Run) -> None:
        try:
            device = self._connect()
            try:
                self._read_on(run, device)
            finally:
                self._disconnect(device)
        except JudoEdgeError as error:
            run.error = error
        except Exception as error:  # a driver raises anything; the asker must hear of it
            run.error = self._gone(first_line(error))
        finally:
            run.opened.set()
            run.frames.close()

    def _read_on(self, run: _Run, device: DeviceT) -> None:
        number, pace, started = 0, _Pace(), time.monotonic()
        while not run.stopped.is_set():
            began_ns = time.monotonic_ns()
            pixels = self._read(device)
            is_live = pace.is_live(time.monotonic_ns() - began_ns)
            number += 1
            is_warm = time.monotonic() - started >= self.warm_up
            if (is_warm or not self.fresh) and not run.frames.put(_Raw(pixels, began_ns, number, is_live)):
                return
            if is_warm and not run.is_open:
                run.is_open = True
                run.opened.set()

    def _gone(self, why: str) -> CameraError:
        return CameraError(CameraFault.UNPLUGGED, f"{self.name}: {why}")


class _Pace:
    """Tells a read that waited for its frame from one that found it in a buffer, by the pace of the frames before."""

    def __init__(self) -> None:
        self._waits: deque[int] = deque(maxlen=_PACE_OF)

    def is_live(self, waited_ns: int) -> bool:
        """Take the next read's duration: a third of the median of the last is a wait, decoding alone is shorter."""
        is_live = len(self._waits) < _PACE_FROM or 3 * waited_ns >= statistics.median(self._waits)
        self._waits.append(waited_ns)
        return is_live
