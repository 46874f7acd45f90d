"""Signs that a camera lies: the same pixels again and again, a frame from before its trigger. Knows no device.

A driver may repeat its last frame for ever after its camera is gone, and real sensors have noise: two frames are
never the same.
"""

from __future__ import annotations

import time

import numpy as np

from judo_edge.core import Image
from judo_edge.errors import CameraError, CameraFault
from judo_edge.runtime.sources.camera import Camera, Grabbed

_ROWS = 64


class FrozenDetector:
    """Counts identical frames in a row, over a reopening too: a camera that still repeats its frame is still frozen."""

    def __init__(self, after: int) -> None:
        """Call it frozen at `after` identical frames in a row, two or more; 0 is off, for drawn images."""
        if after == 1 or after < 0:
            raise ValueError(f"frozen after {after}: one frame alone cannot be called frozen")
        self.after = after
        self._last: Image | None = None
        self._count = 0

    def see(self, grabbed: Grabbed) -> None:
        """Look at a frame; CameraError (frozen) when it is one too many of the same."""
        if not self.after:
            return
        self._count = self._count + 1 if _is_same(self._last, grabbed.image) else 1
        self._last = grabbed.image
        if self._count >= self.after:
            raise CameraError(
                CameraFault.FROZEN,
                f"{self._count} identical frames in a row",
                "the noise of a sensor",
                "check the camera",
            )


def _is_same(last: Image | None, image: Image) -> bool:
    """Compare all pixels, a few rows first: frames of a live sensor differ there already."""
    if last is None or last.shape != image.shape:
        return False
    return np.array_equal(last[::_ROWS], image[::_ROWS]) and np.array_equal(last, image)


def check_fresh(grabbed: Grabbed, asked_ns: int) -> None:
    """Raise CameraError (stale) when a frame was captured before it was asked for, both by the monotonic clock."""
    if grabbed.captured_ns < asked_ns:
        age = (asked_ns - grabbed.captured_ns) / 1e6
        raise CameraError(CameraFault.STALE, f"a frame captured {age:.0f} ms before it was asked for", "one from after")


class Guarded(Camera):
    """A camera whose frames are looked at before they are given out."""

    def __init__(self, camera: Camera, frozen_after: int = 0) -> None:
        """Watch `camera`: so many identical frames are a fault, and so is a stale one of a fresh camera."""
        self.camera = camera
        self.frozen = FrozenDetector(frozen_after)

    @property
    def fresh(self) -> bool:
        """Tell whether the camera promises fresh frames; the promise is checked."""
        return self.camera.fresh

    @property
    def num_dropped(self) -> int:  # type: ignore[override]
        """Frames that the camera dropped."""
        return self.camera.num_dropped

    def open(self) -> None:
        """Open the camera; the frames before are still known."""
        self.camera.open()

    def grab(self, timeout: float) -> Grabbed:
        """Return a frame of the camera, or raise its fault, or frozen, or stale."""
        asked_ns = time.monotonic_ns()
        grabbed = self.camera.grab(timeout)
        if self.fresh:
            check_fresh(grabbed, asked_ns)
        self.frozen.see(grabbed)
        return grabbed

    def check(self) -> None:
        """Ask the camera."""
        self.camera.check()

    def close(self) -> None:
        """Close the camera."""
        self.camera.close()

    def acknowledge(self, path: str) -> None:
        """Tell the camera."""
        self.camera.acknowledge(path)
