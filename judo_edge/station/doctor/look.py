"""Opens one camera and takes two photos, in a process that the doctor may kill: prints one line of JSON.

`python -m judo_edge.station.doctor.look STATION.toml CAMERA`
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from judo_edge.errors import CameraError, CameraFault, JudoEdgeError
from judo_edge.runtime.sources.settings import camera_from_settings
from judo_edge.station.config import station_from_file
from judo_edge.station.processes.camera import settings_of


def main() -> int:
    """Look through the camera that the arguments name."""
    file, name = Path(sys.argv[1]), sys.argv[2]
    try:
        print(json.dumps(_look(file, name)))
    except JudoEdgeError as error:
        print(
            json.dumps({"level": "fail", "found": error.found, "action": error.action or "see the cable and the file"})
        )
    return 0


def _look(file: Path, name: str) -> dict[str, str]:
    config = station_from_file(file)
    settings = settings_of(config, name)
    if settings.kind == "folder":
        return _folder(config.path(settings.folder))
    with camera_from_settings(settings, threading.Event(), config.folder) as camera:
        try:
            first = camera.grab(settings.timeout)
            began = time.monotonic()
            second = camera.grab(settings.timeout)
        except CameraError as error:
            if settings.trigger_comes_from_outside and error.fault is CameraFault.TIMEOUT:
                return {"level": "ok", "found": "it opens; no trigger came meanwhile"}
            raise
    height, width = second.image.shape[:2]
    seconds = time.monotonic() - began
    is_same = first.image.shape == second.image.shape and bool((first.image == second.image).all())
    found = f"{width}x{height}, a fresh photo in {seconds * 1000:.0f} ms"
    if is_same:
        return {
            "level": "fail",
            "found": f"{found}, the same twice",
            "action": "the camera is frozen: plug it in again",
        }
    return {"level": "ok", "found": found}


def _folder(folder: Path) -> dict[str, str]:
    """Look at a folder without taking its photos away."""
    if not folder.is_dir():
        return {"level": "fail", "found": f"no folder {folder}", "action": "make or mount it"}
    num = sum(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())
    return {"level": "ok", "found": f"{folder}, {num} files wait"}


if __name__ == "__main__":
    sys.exit(main())
