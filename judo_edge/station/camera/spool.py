"""Photos on their way from a camera to the inspector, as files in the run folder. Knows no camera and no hub."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from judo_edge.core import Image
from judo_edge.errors import CameraError
from judo_edge.files import output_errors
from judo_edge.runtime.sources.camera import Grabbed
from judo_edge.station.workers import Spooled
from judo_edge.vision.photos import sha256_from_image

_SUFFIX = ".npy"
_HASH_DIGITS = 16


class Spool:
    """The photos of one camera; at most `capacity` files stay, the oldest go first."""

    def __init__(self, folder: Path, camera: str, capacity: int) -> None:
        """Name the folder, which exists. Frame numbers begin anew with the process, so its start is in their names."""
        self.folder, self.camera, self.capacity = folder, camera, capacity
        self._started = f"{time.time_ns():x}"

    def put(self, grabbed: Grabbed) -> Spooled:
        """Write a frame's pixels and return what is told of it; OutputError when there is no room.

        The file's name is the same for the same frame, also of a photo in a file that a new process finds again, so
        it serves as the key of the job.
        """
        if identity := _identity(grabbed.path):
            source = f"{identity}-{sha256_from_image(grabbed.image)[:_HASH_DIGITS]}"
        else:
            source = f"{self._started}-{grabbed.frame_number}"
        spooled = self._described(grabbed.path, grabbed.part_id, source, grabbed)
        self._write(spooled.file, grabbed.image)
        return spooled

    def put_fault(self, error: CameraError) -> Spooled:
        """Describe a part of which there are no pixels: its file cannot be read, so the part gets no OK."""
        source = _identity(error.path) or f"{self._started}-{time.monotonic_ns()}"
        return self._described(error.path, error.part_id, source).model_copy(update={"problem": str(error)})

    def has(self, spooled: Spooled) -> bool:
        """Tell whether the file is still there."""
        return (self.folder / spooled.file).is_file()

    def remove(self, spooled: Spooled) -> None:
        """Take a photo away that nobody will ask for."""
        (self.folder / spooled.file).unlink(missing_ok=True)

    def _described(self, path: str, part_id: str, source: str, grabbed: Grabbed | None = None) -> Spooled:
        captured_ns = grabbed.captured_ns if grabbed else time.monotonic_ns()
        return Spooled(
            file=f"{self.camera}-{source}{_SUFFIX}",
            captured_ns=captured_ns,
            captured=utc_of_monotonic(captured_ns),
            frame_number=grabbed.frame_number if grabbed else 0,
            path=path,
            part_id=part_id,
        )

    def _write(self, name: str, image: Image) -> None:
        self._make_room()
        path, partial = self.folder / name, self.folder / f".{name}.partial"
        try:
            with output_errors(path):
                with partial.open("wb") as stream:
                    np.save(stream, np.ascontiguousarray(image), allow_pickle=False)
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove the oldest files of this camera, so that one more fits."""
        found = []
        for path in self.folder.glob(f"{self.camera}-*{_SUFFIX}"):
            with suppress(OSError):
                found.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(found)[: max(0, len(found) + 1 - self.capacity)]:
            path.unlink(missing_ok=True)


def utc_of_monotonic(captured_ns: int) -> str:
    """Return the time of day of a moment of the monotonic clock: UTC, ISO 8601, microseconds."""
    age = (time.monotonic_ns() - captured_ns) / 1e9
    return (datetime.now(timezone.utc) - timedelta(seconds=age)).isoformat(timespec="microseconds")


def _identity(path: str) -> str:
    """Return what tells a file from every other one, also of the same name; empty for a camera's frame."""
    if not path:
        return ""
    try:
        status = Path(path).stat()
    except OSError:
        return hashlib.sha256(path.encode()).hexdigest()[:_HASH_DIGITS]
    text = f"{Path(path).name} {status.st_ino} {status.st_mtime_ns} {status.st_size}"
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
