"""Any GStreamer pipeline as a camera: `gst-launch-1.0` in a process of its own, and a pipe of raw RGB frames.

For CSI cameras (`nvarguscamerasrc ! nvvidconv`), `rtspsrc`, `v4l2src`. A pipeline that hangs or dies takes nobody
with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import IO, Any, cast

import numpy as np

from judo_edge.core import Image
from judo_edge.errors import CameraError, CameraFault, ConfigError, DependencyError
from judo_edge.runtime.sources.threaded import Pixels, ThreadedCamera
from judo_edge.runtime.sources.waiting import WaitingPolicy

_LAUNCH = "gst-launch-1.0"
_PATIENCE = 1.0
_ROW_ALIGNMENT = 4
"""GStreamer pads each row of raw RGB video to a multiple of four bytes."""


@dataclass
class Pipeline:
    """A running `gst-launch-1.0`, the pipe of its frames and its last words."""

    process: subprocess.Popen[bytes]
    frames: IO[bytes]
    words: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    listener: threading.Thread | None = None


class GStreamerCamera(ThreadedCamera[Pipeline]):
    """The frames of one pipeline, which is written without its sink: `v4l2src device=/dev/video0 ! decodebin`."""

    def __init__(
        self,
        pipeline: str,
        width: int,
        height: int,
        policy: WaitingPolicy = WaitingPolicy.DROP_OLDEST,
        capacity: int = 1,
        skip_frames: int = 1,
        open_timeout: float = 10.0,
    ) -> None:
        """Name the pipeline and the size of its frames in pixels (scaled where they differ); nothing is started.

        One frame is let pass by default, as one may already stand in the pipe when a frame is asked for.
        """
        fresh = policy is WaitingPolicy.DROP_OLDEST
        super().__init__("pipeline", policy, capacity, fresh, skip_frames, open_timeout)
        self.pipeline, self.width, self.height = pipeline, width, height
        self._pipe: Pipeline | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs the pipeline, None when it is not open."""
        return self._pipe.process.pid if self._pipe else None

    def _connect(self) -> Pipeline:
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen(
                self._command(writing),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(writing,),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        pipe = self._pipe = Pipeline(process, os.fdopen(reading, "rb", buffering=0))
        pipe.listener = threading.Thread(target=_listen, args=(pipe,), daemon=True)
        pipe.listener.start()
        return pipe

    def _command(self, handle: int) -> list[str]:
        program = shutil.which(_LAUNCH)
        if not program:
            raise DependencyError(f"no {_LAUNCH}", "GStreamer's tools", "apt install gstreamer1.0-tools")
        caps = f"video/x-raw,format=RGB,width={self.width},height={self.height}"
        tail = f"videoconvert ! videoscale ! {caps} ! queue leaky=downstream max-size-buffers=1"
        if self.policy is WaitingPolicy.WAIT:
            tail = f"videoconvert ! videoscale ! {caps}"
        return [program, "-q", *self._elements(), "!", *tail.split(), "!", "fdsink", f"fd={handle}", "sync=false"]

    def _elements(self) -> list[str]:
        try:
            elements = shlex.split(self.pipeline)
        except ValueError as error:
            raise ConfigError(f"pipeline {self.pipeline!r}: {error}", "a pipeline as for gst-launch-1.0") from error
        if not elements or elements[0].startswith("-"):
            raise ConfigError(f"pipeline {self.pipeline!r}", "elements joined by exclamation marks", "name a source")
        return elements

    def _read(self, device: Pipeline) -> Pixels:
        row = -(-self.width * 3 // _ROW_ALIGNMENT) * _ROW_ALIGNMENT
        frame = np.empty((self.height, row), np.uint8)
        view = memoryview(cast(Any, frame.reshape(-1)))
        while len(view):
            size = device.frames.readinto(view)  # type: ignore[attr-defined]
            if not size:
                raise self._ended(device)
            view = view[size:]
        return frame

    def _rgb(self, pixels: Pixels) -> Image:
        return np.ascontiguousarray(pixels[:, : self.width * 3].reshape(self.height, self.width, 3))

    def _disconnect(self, device: Pipeline) -> None:
        _end(device.process)
        device.frames.close()

    def _interrupt(self) -> None:
        if self._pipe:
            _end(self._pipe.process)  # its end of the pipe closes, and the read returns

    def _ended(self, device: Pipeline) -> CameraError:
        code = device.process.wait()
        if device.listener:
            device.listener.join(1.0)  # its last words
        words = next((line for line in device.words if "ERROR" in line or "WARNING" in line), "")
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return CameraError(
            CameraFault.UNPLUGGED, f"the pipeline {how}: {words}".rstrip(": "), "frames", "check it by hand"
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the pipeline to end, then make it: the daemon behind a CSI camera may hang after a client that was killed."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _listen(pipe: Pipeline) -> None:
    if pipe.process.stderr:
        with pipe.process.stderr as stream:
            for line in stream:
                pipe.words.append(line.decode("utf-8", "replace").strip())
