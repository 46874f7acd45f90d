"""USB cameras, device files, RTSP streams and video files by OpenCV. Knows OpenCV's ways to hide a fault, and no model.

`read` may never return, may repeat the last frame after an unplug and may leave `isOpened` true; so a thread reads,
every ask has a time limit, and identical frames are for `health` to see.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.core import Image
from judo_edge.errors import CameraError, CameraFault, ConfigError, DependencyError
from judo_edge.runtime.sources.threaded import Pixels, ThreadedCamera
from judo_edge.runtime.sources.waiting import WaitingPolicy

_BACKLOG = 1.0
"""Seconds in which a network stream's backlog of the beginning is read away."""


class OpenCvCamera(ThreadedCamera[Any]):
    """One cv2.VideoCapture: an index, a device path, a URL, a video file or, where OpenCV was built for it, a pipeline.

    A video file gives every frame in order and ends as unplugged; anything else gives fresh frames.
    """

    def __init__(
        self,
        device: int | str,
        properties: Mapping[str, float] | None = None,
        policy: WaitingPolicy = WaitingPolicy.DROP_OLDEST,
        capacity: int = 1,
        skip_frames: int = 0,
        open_timeout: float = 10.0,
        read_timeout: float = 5.0,
    ) -> None:
        """Name the device; nothing is opened.

        `properties` are OpenCV's CAP_PROP_ names without that prefix, such as FRAME_WIDTH; ConfigError at `open` for
        one that is unknown or that the driver refuses. `read_timeout` (seconds) ends a stream that has stopped, where
        OpenCV can tell.
        """
        is_file = isinstance(device, str) and Path(device).is_file()
        policy = WaitingPolicy.WAIT if is_file else policy
        fresh = policy is WaitingPolicy.DROP_OLDEST
        super().__init__(f"camera {_shown(device)}", policy, capacity, fresh, skip_frames, open_timeout)
        self.warm_up = _BACKLOG if isinstance(device, str) and "://" in device and fresh else 0.0
        self.device, self.properties, self.read_timeout, self.is_file = device, properties or {}, read_timeout, is_file

    def _connect(self) -> Any:
        import cv2

        backend, parameters = self._backend()
        capture = cv2.VideoCapture(self.device, backend, parameters)
        if not capture.isOpened():
            raise CameraError(
                CameraFault.UNPLUGGED,
                f"{self.name} cannot be opened",
                "a camera, stream or video",
                _advice(self.device),
            )
        try:
            self._set_properties(capture)
        except BaseException:
            capture.release()
            raise
        return capture

    def _read(self, device: Any) -> Pixels:
        came, pixels = device.read()
        if came and pixels is not None and pixels.size:
            return np.asarray(pixels)
        found = "has ended" if self.is_file else "gives no frame any more"
        raise CameraError(CameraFault.UNPLUGGED, f"{self.name} {found}", "a frame", _advice(self.device))

    def _disconnect(self, device: Any) -> None:
        device.release()

    def _rgb(self, pixels: Pixels) -> Image:
        import cv2

        conversion = cv2.COLOR_GRAY2RGB if pixels.ndim == 2 or pixels.shape[2] == 1 else cv2.COLOR_BGR2RGB
        return np.asarray(cv2.cvtColor(pixels, conversion), dtype=np.uint8)

    def _backend(self) -> tuple[int, list[int]]:
        import cv2

        if isinstance(self.device, int) or self.device.startswith("/dev/"):
            return (cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY), []
        if is_pipeline(self.device):
            _check_gstreamer()
            return cv2.CAP_GSTREAMER, []
        limits = {cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: self.open_timeout, cv2.CAP_PROP_READ_TIMEOUT_MSEC: self.read_timeout}
        return cv2.CAP_FFMPEG, [value for key, limit in limits.items() for value in (key, int(limit * 1000))]

    def _set_properties(self, capture: Any) -> None:
        import cv2

        known = [name.removeprefix("CAP_PROP_") for name in dir(cv2) if name.startswith("CAP_PROP_")]
        for name, value in self.properties.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ConfigError(
                    f"camera property {name}", "a CAP_PROP_ name of OpenCV", f"did you mean {near}?" if near else ""
                )
            if not capture.set(getattr(cv2, f"CAP_PROP_{name}"), value):
                raise ConfigError(f"{self.name} refuses {name} = {value:g}", "a property that it has", "remove it")


def _shown(device: int | str) -> str:
    """Return a device as logs and conditions may show it: without the name and password of an address."""
    return re.sub(r"://[^/\s]*@", "://", str(device))


def is_pipeline(device: int | str) -> bool:
    """Tell whether a device is a GStreamer pipeline: elements joined by exclamation marks."""
    return isinstance(device, str) and " ! " in device


def _check_gstreamer() -> None:
    import cv2

    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise DependencyError(
            "this OpenCV was built without GStreamer (its wheels are)",
            "a pipeline needs it",
            "set kind = 'gstreamer', which runs gst-launch-1.0 instead",
        )


def _advice(device: int | str) -> str:
    if isinstance(device, int) or device.startswith("/dev/"):
        return "check the cable, /dev/video* and the group 'video'"
    return "check the address and that nothing else uses it" if "://" in device else "check the path"
