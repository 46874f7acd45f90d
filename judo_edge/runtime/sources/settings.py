"""A camera's table in the station's TOML, and the camera made of it. Knows every kind, imports none before it is made.

A table has `name` and `kind`, what all kinds share, and what its own kind needs; an unknown key is refused.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, field_validator

from judo_edge.config import Frozen
from judo_edge.errors import CameraFault, ConfigError
from judo_edge.runtime.sources.camera import Camera, Trigger
from judo_edge.runtime.sources.health import Guarded
from judo_edge.runtime.sources.reconnect import REOPEN_AFTER, Backoff, Reconnecting
from judo_edge.runtime.sources.triggered import VisionSettings
from judo_edge.runtime.sources.waiting import WaitingPolicy
from judo_edge.runtime.sources.watched import WatchedFolder, pattern_of_part_id

Feature = StrictBool | StrictInt | StrictFloat | StrictStr
Seconds = Annotated[float, Field(gt=0, le=3600)]


class _Shared(Frozen):
    """What every kind of camera has."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
    """How the station calls it: letters, digits, `_`, `.`, `-`."""
    timeout: Seconds = 2.0
    """Seconds within which a frame must come."""
    reopen_first: Seconds = 0.5
    """Seconds until a camera that failed is opened again; doubled after each failure."""
    reopen_longest: Seconds = 30.0
    """Seconds that this pause never exceeds."""

    @property
    def trigger_comes_from_outside(self) -> bool:
        """Tell whether frames come by themselves (a hardware signal, a file) rather than when they are asked for."""
        return False


class _Live(_Shared):
    """What every camera with a sensor has."""

    trigger: Trigger = Trigger.FREE_RUN
    frozen_after: Annotated[int, Field(ge=0, le=10_000)] = 2
    """Identical frames in a row that count as frozen: two, as a sensor has noise. More where a still scene is
    compressed without it (H.264); 0 is off, for drawn images."""
    waiting: WaitingPolicy = WaitingPolicy.DROP_OLDEST
    """What happens to frames that nobody has asked for yet."""
    capacity: Annotated[int, Field(ge=1, le=256)] = 4
    """Frames that can wait."""

    @field_validator("frozen_after")
    @classmethod
    def _not_one(cls, value: int) -> int:
        if value == 1:
            raise ValueError("0 (off) or at least 2: one frame alone cannot be frozen")
        return value

    @property
    def trigger_comes_from_outside(self) -> bool:
        """Tell whether frames come by themselves (a hardware signal, a file) rather than when they are asked for."""
        return self.trigger is Trigger.HARDWARE


class FolderSettings(_Shared):
    """`kind = "folder"`: photos that appear in a folder."""

    kind: Literal["folder"]
    folder: Path
    part_id: str = ""
    """Regular expression with a group `part_id`, searched in the file's name without suffix."""
    settle: Annotated[float, Field(ge=0, le=60)] = 0.3
    """Seconds that a file must not have changed; 0 where files are renamed into place."""
    give_up: Seconds = 10.0
    """Seconds after which an unchanged file that does not decode is moved to `failed/`."""
    poll: Annotated[float, Field(ge=0.01, le=60)] = 0.1
    """Seconds between two looks at the folder."""
    keep_until_acknowledged: bool = False
    """Leave a photo in place until the station says that its verdict is kept; else it moves with the next request."""

    @field_validator("part_id")
    @classmethod
    def _has_the_group(cls, value: str) -> str:
        try:
            if value:
                pattern_of_part_id(value)
        except ConfigError as error:
            raise ValueError(f"{error.wanted}") from error
        return value

    @property
    def trigger_comes_from_outside(self) -> bool:
        """A file is its own trigger."""
        return True


class OpenCvSettings(_Live):
    """`kind = "opencv"`: USB camera, RTSP stream or video file."""

    kind: Literal["opencv"]
    device: StrictInt | StrictStr
    """Index, `/dev/video...`, URL, or path of a video file."""
    trigger: Literal[Trigger.FREE_RUN] = Trigger.FREE_RUN
    properties: dict[str, float] = Field(default_factory=dict)
    """OpenCV's CAP_PROP_ names without that prefix, such as FRAME_WIDTH."""
    skip_frames: Annotated[int, Field(ge=0, le=100)] = 0
    """Frames let pass after a request, for streams that come late."""
    capacity: Annotated[int, Field(ge=1, le=256)] = 1
    open_timeout: Seconds = 10.0


class GStreamerSettings(_Live):
    """`kind = "gstreamer"`: any pipeline, run by gst-launch-1.0."""

    kind: Literal["gstreamer"]
    pipeline: Annotated[str, Field(min_length=1)]
    """Elements without the sink, such as `nvarguscamerasrc ! nvvidconv`."""
    width: Annotated[int, Field(ge=1, le=32768)]
    height: Annotated[int, Field(ge=1, le=32768)]
    trigger: Literal[Trigger.FREE_RUN] = Trigger.FREE_RUN
    skip_frames: Annotated[int, Field(ge=0, le=100)] = 1
    """Frames let pass after a request; one may already stand in the pipe."""
    capacity: Annotated[int, Field(ge=1, le=256)] = 1
    open_timeout: Seconds = 10.0


class _Vision(_Live):
    """What GenICam cameras have."""

    device: str = ""
    trigger: Trigger = Trigger.SOFTWARE
    trigger_source: Annotated[str, Field(min_length=1)] = "Line1"
    """Input of the hardware trigger, by its GenICam name."""
    capacity: Annotated[int, Field(ge=2, le=256)] = 8
    features: dict[str, Feature] = Field(default_factory=dict)
    """GenICam features, set in this order: `PixelFormat = "BayerRG8"`, `ExposureTime = 800.0`."""


class GenICamSettings(_Vision):
    """`kind = "genicam"`: harvesters and a GenTL producer; `device` is a serial number or id."""

    kind: Literal["genicam"]
    producer: Path
    """The .cti file of the camera's maker."""


class AravisSettings(_Vision):
    """`kind = "aravis"`: GigE or USB3 Vision by libaravis; `device` is an id as in `arv-tool-0.8`, or an address."""

    kind: Literal["aravis"]
    packet_socket: bool = True
    """False receives by UDP sockets, as the loopback device needs."""
    socket_buffer: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 8 << 20
    """Bytes of receive buffer of a UDP socket; net.core.rmem_max caps it."""


CameraSettings = Annotated[
    FolderSettings | OpenCvSettings | GStreamerSettings | GenICamSettings | AravisSettings, Field(discriminator="kind")
]
"""One camera's table, told apart by `kind`."""


def camera_from_settings(
    settings: CameraSettings, stop: threading.Event | None = None, base: Path = Path()
) -> Reconnecting:
    """Make the camera, guarded and reconnecting; nothing is opened.

    `stop`, once set, ends its waits. Relative paths begin at `base`, the folder of the station's file.
    """
    frozen_after = settings.frozen_after if isinstance(settings, _Live) else 0
    guarded = Guarded(source_from_settings(settings, base), frozen_after)
    reopen_after = dict(REOPEN_AFTER)
    if settings.trigger_comes_from_outside:
        del reopen_after[CameraFault.TIMEOUT]  # no part came: that is no fault
    backoff = Backoff(settings.reopen_first, settings.reopen_longest)
    return Reconnecting(guarded, backoff, reopen_after, stop or threading.Event())


def source_from_settings(settings: CameraSettings, base: Path = Path()) -> Camera:
    """Make the bare camera of a table; nothing is opened."""
    if isinstance(settings, FolderSettings):
        return _folder(settings, base)
    if isinstance(settings, OpenCvSettings):
        return _opencv(settings, base)
    if isinstance(settings, GStreamerSettings):
        return _gstreamer(settings)
    if isinstance(settings, GenICamSettings):
        return _genicam(settings, base)
    return _aravis(settings)


def _folder(one: FolderSettings, base: Path) -> Camera:
    return WatchedFolder(base / one.folder, one.part_id, one.settle, one.give_up, one.poll, one.keep_until_acknowledged)


def _opencv(one: OpenCvSettings, base: Path) -> Camera:
    from judo_edge.runtime.sources.opencv import OpenCvCamera

    limits = (one.capacity, one.skip_frames, one.open_timeout, one.timeout)
    device = one.device
    if isinstance(device, str) and (base / device).is_file():
        device = str(base / device)
    return OpenCvCamera(device, one.properties, one.waiting, *limits)


def _gstreamer(one: GStreamerSettings) -> Camera:
    from judo_edge.runtime.sources.gstreamer import GStreamerCamera

    limits = (one.capacity, one.skip_frames, one.open_timeout)
    return GStreamerCamera(one.pipeline, one.width, one.height, one.waiting, *limits)


def _genicam(one: GenICamSettings, base: Path) -> Camera:
    from judo_edge.runtime.sources.genicam import GenICamCamera

    return GenICamCamera(base / one.producer, _use(one))


def _aravis(one: AravisSettings) -> Camera:
    from judo_edge.runtime.sources.aravis import AravisCamera

    return AravisCamera(_use(one), one.packet_socket, one.socket_buffer)


def _use(one: _Vision) -> VisionSettings:
    return VisionSettings(one.device, one.trigger, one.trigger_source, one.waiting, one.capacity, one.features)
