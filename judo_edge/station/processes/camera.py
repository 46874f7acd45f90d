"""The process of one camera: the driver's thread on one side, the hub on the other."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from judo_edge.errors import ConfigError, StationError
from judo_edge.runtime.sources.camera import Trigger
from judo_edge.runtime.sources.reconnect import Reconnecting
from judo_edge.runtime.sources.settings import CameraSettings, FolderSettings, camera_from_settings
from judo_edge.station.camera.service import CameraService
from judo_edge.station.camera.spool import Spool
from judo_edge.station.client import StationClient
from judo_edge.station.config import StationConfig
from judo_edge.station.workers import SOCKET_NAME, SPOOL_NAME

EXIT_STUCK = 75
_SPARE_FILES = 4
_log = logging.getLogger(__name__)


async def run_camera(config: StationConfig, run_folder: Path, name: str) -> None:
    """Serve the hub with a camera until cancelled.

    ConfigError when there is no such camera. A camera whose thread is caught in its driver ends the whole process with
    status 75: a thread cannot be ended, and an interpreter that waits for it would not end either.
    """
    settings = settings_of(config, name)
    spool = Spool(run_folder / SPOOL_NAME, name, config.station.max_waiting + _SPARE_FILES)
    spool.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    stop = threading.Event()
    service = CameraService(
        camera_of(settings, stop, config.folder),
        name,
        spool,
        is_pushing=settings.trigger_comes_from_outside,
        is_live=getattr(settings, "trigger", None) is Trigger.FREE_RUN,
        max_waiting=config.station.max_waiting if isinstance(settings, FolderSettings) else None,
    )
    client = StationClient(run_folder / SOCKET_NAME, "camera", name, service.handlers)
    try:
        await service.run(client)
    except StationError as error:
        _log.error("%s", error)
        os._exit(EXIT_STUCK)
    finally:
        stop.set()
        await client.close()


def camera_of(settings: CameraSettings, stop: threading.Event, folder: Path) -> Reconnecting:
    """Make a camera, its paths relative to `folder`; photos stay in theirs until their part is in the ledger."""
    if isinstance(settings, FolderSettings):
        settings = settings.model_copy(update={"keep_until_acknowledged": True})
    return camera_from_settings(settings, stop, folder)


def settings_of(config: StationConfig, name: str) -> CameraSettings:
    """Return a camera's table; ConfigError when there is none of that name."""
    for settings in config.cameras:
        if settings.name == name:
            return settings
    known = ", ".join(camera.name for camera in config.cameras) or "none"
    raise ConfigError(f"no camera {name!r}", f"one of {known}", "see [[cameras]] in the station's file")
