"""What every source of frames is to the station: open, grab, check, close. Knows no device and no model.

A camera is used by one process of its own and one thread: calls block, and a call into a driver may never return.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import TypeVar

from judo_edge.core import Image

CameraT = TypeVar("CameraT", bound="Camera")


class Trigger(str, Enum):
    """What makes a camera take a frame."""

    SOFTWARE = "software"
    """`grab` does: the frame is captured after the call."""
    HARDWARE = "hardware"
    """A signal at the camera's input: `grab` waits for the next, in order."""
    FREE_RUN = "free-run"
    """The camera's own clock; the policy for waiting frames says which of them count."""


@dataclass(frozen=True)
class Grabbed:
    """One frame as a camera gives it, before it is a part's `Frame`."""

    image: Image
    """RGB pixels, (height, width, 3) uint8."""
    captured_ns: int
    """Monotonic clock, nanoseconds: not later than the capture of a fresh frame; else when it reached the process."""
    frame_number: int
    """The camera's own counter where it has one, without its wraps, or the source's count; rises by one a frame."""
    path: str = ""
    """File that the photo came from, empty for a camera."""
    part_id: str = ""
    """Part that the frame names itself, by its file name; empty where a trigger tells it."""
    missed: int = 0
    """Frames that were lost or passed over between the one grabbed before and this one."""


class Camera(ABC):
    """A source of frames; `with camera:` opens it, and closes it whatever happens. Not safe for several threads."""

    num_dropped = 0
    """Frames that came and were not given out since the camera was made."""

    @property
    def fresh(self) -> bool:
        """Tell whether the camera promises frames that were captured after the call of `grab`."""
        return False

    @abstractmethod
    def open(self) -> None:
        """Reach the device and make it ready; CameraError when it cannot be reached."""

    @abstractmethod
    def grab(self, timeout: float) -> Grabbed:
        """Return a frame within `timeout` seconds, or raise CameraError with the fault."""

    @abstractmethod
    def check(self) -> None:
        """Raise CameraError when the device is known to be gone; returns at once."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the device; harmless when it is not open. Raises no CameraError."""

    def acknowledge(self, path: str) -> None:  # noqa: B027 - most sources have nothing to do
        """Hear that the verdict on the photo `path` is kept; a camera does nothing."""

    def __enter__(self: CameraT) -> CameraT:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
