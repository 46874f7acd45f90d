"""The one thread that touches a camera: grabs when asked, or reads on and delivers what comes. Knows no hub.

A call into a driver may never return. `stuck_seconds` says so, and the process then ends itself: nothing less lets go
of a driver.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from judo_edge.errors import CameraError, CameraFault, JudoEdgeError, first_line
from judo_edge.runtime.sources.camera import Grabbed

Delivered = Grabbed | CameraError
"""A frame, or the fault of a part that passed: unreadable or incomplete."""
POLL_SECONDS = 0.25
OPEN_SECONDS = 60.0
"""What opening may take beyond the time limit of a call."""
_OF_A_PART = (CameraFault.UNREADABLE, CameraFault.INCOMPLETE)
_Task = Callable[[], None]


class ReconnectingCamera(Protocol):
    """What `camera_from_settings` makes."""

    @property
    def is_open(self) -> bool:
        """Tell whether the camera is open, as far as is known."""
        ...

    def open(self) -> None:
        """Open it; one that is away is no error."""
        ...

    def grab(self, timeout: float) -> Grabbed:
        """Return a frame or raise CameraError."""
        ...

    def tend(self) -> bool:
        """Look after it between frames."""
        ...

    def check(self) -> None:
        """Raise the fault of a camera that is away."""
        ...

    def acknowledge(self, path: str) -> None:
        """Hear that the verdict on a photo is kept."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Reader:
    """Runs a camera in a daemon thread; every method may be called from another thread."""

    def __init__(
        self,
        camera: ReconnectingCamera,
        deliver: Callable[[Delivered], None] | None,
        report: Callable[[CameraError | None], None],
    ) -> None:
        """With `deliver` the camera is read on and on, and that call may block; `report` hears of its state.

        Both are called in the camera's thread. A deliverer that raises ends the thread.
        """
        self._camera, self._deliver, self._report = camera, deliver, report
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._limit: float | None = None
        self.error: Exception | None = None
        """What ended the thread, such as a setting that the camera refuses."""
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self) -> None:
        """Open the camera and begin."""
        self._thread.start()

    def stop(self, timeout: float = 3.0) -> bool:
        """Close the camera; False when its thread is caught in the driver."""
        self._stop.set()
        self._tasks.put(lambda: None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def is_running(self) -> bool:
        """Tell whether the thread lives."""
        return self._thread.is_alive()

    def stuck_seconds(self) -> float:
        """Return by how many seconds the call under way has overrun its limit; 0 when it has not."""
        limit = self._limit
        return max(0.0, time.monotonic() - limit) if limit is not None else 0.0

    def grab(self, timeout: float) -> Future[Grabbed]:
        """Ask for a frame; the future raises CameraError with the fault."""
        asked: Future[Grabbed] = Future()
        deadline = time.monotonic() + timeout
        self._tasks.put(lambda: self._grab_for(asked, deadline))
        return asked

    def acknowledge(self, path: str) -> None:
        """Tell the camera that the verdict on a photo is kept."""
        self._tasks.put(lambda: self._camera.acknowledge(path))

    def _run(self) -> None:
        try:
            self._within(OPEN_SECONDS, self._camera.open)
            while not self._stop.is_set():
                self._do_tasks()
                if self._deliver:
                    self._read_on(self._deliver)
                elif not self._stop.is_set():
                    self._within(OPEN_SECONDS, self._look_after)
        except Exception as error:  # whoever runs us hears of it and ends the process
            self.error = error
        finally:
            self._within(OPEN_SECONDS, self._camera.close)

    def _do_tasks(self) -> None:
        """Do what was asked for; without a deliverer wait a little for it."""
        wait = self._deliver is None
        while True:
            try:
                task = self._tasks.get(timeout=POLL_SECONDS) if wait else self._tasks.get_nowait()
            except queue.Empty:
                return
            wait = False
            task()

    def _read_on(self, deliver: Callable[[Delivered], None]) -> None:
        """Wait for a frame and deliver it; no frame is no fault of a camera that is triggered from outside."""
        try:
            grabbed = self._grabbed(POLL_SECONDS)
        except CameraError as error:
            self._report(None if self._camera.is_open else error)
            if error.fault in _OF_A_PART:
                deliver(error)
            elif not self._camera.is_open:
                self._stop.wait(POLL_SECONDS)
            return
        self._report(None)
        deliver(grabbed)

    def _look_after(self) -> None:
        if self._camera.tend():
            self._report(None)
            return
        try:
            self._camera.check()
        except CameraError as error:
            self._report(error)

    def _grab_for(self, asked: Future[Grabbed], deadline: float) -> None:
        if not asked.set_running_or_notify_cancel():
            return
        try:
            grabbed = self._grabbed(max(0.0, deadline - time.monotonic()))
        except CameraError as error:
            self._report(error)
            asked.set_exception(error)
        else:
            self._report(None)
            asked.set_result(grabbed)

    def _grabbed(self, timeout: float) -> Grabbed:
        """Grab a frame; whatever a driver raises is a CameraError."""
        self._limit = time.monotonic() + timeout + OPEN_SECONDS * (not self._camera.is_open)
        try:
            return self._camera.grab(timeout)
        except CameraError:
            raise
        except JudoEdgeError as error:
            raise CameraError(CameraFault.UNPLUGGED, error.found, error.wanted, error.action) from error
        except Exception as error:
            raise CameraError(CameraFault.UNPLUGGED, f"{type(error).__name__}: {first_line(error)}") from error
        finally:
            self._limit = None

    def _within(self, seconds: float, call: Callable[[], object]) -> None:
        self._limit = time.monotonic() + seconds
        try:
            call()
        finally:
            self._limit = None
