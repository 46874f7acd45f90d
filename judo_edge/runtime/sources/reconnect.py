"""A camera that is opened again after a fault, with longer and longer pauses. Knows no device.

No call waits for a pause longer than its own time limit: a trigger gets its fault in time, and the camera comes back
meanwhile.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from judo_edge.errors import CameraError, CameraFault, JudoEdgeError
from judo_edge.runtime.sources.camera import Camera, Grabbed


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts: doubled each time, up to a limit, and shortened by chance so as not to move in step."""

    first: float = 0.5
    longest: float = 30.0
    """Seconds."""

    def pause(self, attempt: int) -> float:
        """Return the seconds to wait after so many failures in a row (from one): between half and all of the pause."""
        pause = min(self.longest, self.first * 2.0 ** min(attempt - 1, 30))
        return pause * random.uniform(0.5, 1.0)


REOPEN_AFTER: Mapping[CameraFault, int] = {
    CameraFault.UNPLUGGED: 1,
    CameraFault.FROZEN: 1,
    CameraFault.TIMEOUT: 2,
    CameraFault.STALE: 3,
    CameraFault.INCOMPLETE: 3,
}
"""How many of a fault in a row make a camera be opened again; a fault that is not named never does."""


@dataclass
class _Absence:
    """What is known of a camera that is not open."""

    error: CameraError
    due: float
    """Monotonic seconds when it may be tried again."""


@dataclass
class Reconnecting(Camera):
    """Wraps a camera: a frame that fails raises its fault, and the camera is opened again where that helps."""

    camera: Camera
    backoff: Backoff = field(default_factory=Backoff)
    reopen_after: Mapping[CameraFault, int] = field(default_factory=lambda: REOPEN_AFTER)
    stop: threading.Event = field(default_factory=threading.Event)
    """Set by another thread, it ends every wait here."""
    num_reconnects: int = 0
    """Times that the camera was opened again."""
    num_faults: int = 0
    """Frames that failed, and attempts to open."""

    def __post_init__(self) -> None:
        """Start closed."""
        self._absence: _Absence | None = None
        self._in_a_row: tuple[CameraFault | None, int] = (None, 0)
        self._attempt = 0  # failures in a row to give a frame: a camera that opens and gives none has its pauses too

    @property
    def fresh(self) -> bool:
        """Tell whether the camera promises fresh frames."""
        return self.camera.fresh

    @property
    def num_dropped(self) -> int:  # type: ignore[override]
        """Frames that the camera dropped."""
        return self.camera.num_dropped

    @property
    def is_open(self) -> bool:
        """Tell whether the camera is open, as far as is known."""
        return self._absence is None

    def open(self) -> None:
        """Open the camera; one that is not there yet is no error, it is tried again; a wrong setting is."""
        self._absence = None
        try:
            self.camera.open()
        except CameraError as error:
            self.num_faults += 1
            self._attempt = 1
            self._leave(error)

    def grab(self, timeout: float) -> Grabbed:
        """Return a frame; CameraError with the fault, at once for a camera that is still away and not due to be tried.

        An attempt to open that falls into the call takes the time that the camera's `open` takes.
        """
        deadline = time.monotonic() + timeout
        self._return(deadline)
        try:
            grabbed = self.camera.grab(max(0.0, deadline - time.monotonic()))
        except CameraError as error:
            self._weigh(error)
            raise
        self._in_a_row, self._attempt = (None, 0), 0
        return grabbed

    def tend(self) -> bool:
        """Notice a camera that went, try one that is due; call it between frames. Tell whether the camera is open."""
        try:
            self._return(time.monotonic())
            self.camera.check()
        except CameraError as error:
            if self._absence is None:
                self._weigh(error)
        return self.is_open

    def check(self) -> None:
        """Raise the fault of a camera that is away."""
        if self._absence:
            raise self._absence.error
        self.camera.check()

    def close(self) -> None:
        """Close the camera."""
        self.camera.close()

    def acknowledge(self, path: str) -> None:
        """Tell the camera."""
        self.camera.acknowledge(path)

    def _weigh(self, error: CameraError) -> None:
        """Count a fault; close the camera where there were enough of it in a row."""
        self.num_faults += 1
        fault, count = self._in_a_row
        self._in_a_row = (error.fault, count + 1 if fault is error.fault else 1)
        limit = self.reopen_after.get(error.fault, 0)
        if limit and self._in_a_row[1] >= limit:
            self._in_a_row = (None, 0)
            self._leave(error)

    def _return(self, deadline: float) -> None:
        """Open a camera that is away, when its pause ends before `deadline`; else raise why it is away."""
        while absence := self._absence:
            pause = absence.due - time.monotonic()
            if self.stop.is_set() or absence.due > deadline or self.stop.wait(max(0.0, pause)):
                raise absence.error
            try:
                self.camera.open()
            except JudoEdgeError as error:
                self.num_faults += 1
                self._leave(error)
                continue
            self.num_reconnects += 1
            self._absence = None

    def _leave(self, error: JudoEdgeError) -> None:
        """Close the camera until its pause is over; after a good frame the first attempt comes at once."""
        self.camera.close()
        fault = error if isinstance(error, CameraError) else CameraError(CameraFault.UNPLUGGED, str(error))
        pause = self.backoff.pause(self._attempt) if self._attempt else 0.0
        self._attempt += 1
        self._absence = _Absence(fault, time.monotonic() + pause)
