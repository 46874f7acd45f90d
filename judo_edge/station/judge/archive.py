"""Photos and masks of results: `<data>/archive/YYYY-MM-DD/<decision>/<result id>.jpg`, the mask as `.png` beside it.

Photos are JPEG of quality 95 with full colour resolution: what a person looks at, asks about and may enrol, at a
fraction of a lossless file. Each is written beside, flushed and renamed. Knows no verdicts but by name.
"""

from __future__ import annotations

import io
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage

from judo_edge.core import CellMask, Decision, Image
from judo_edge.errors import InputError, OutputError
from judo_edge.files import output_errors, sync_to_disk, write_atomic
from judo_edge.runtime.masks import file_stem
from judo_edge.runtime.photos import png_from_image
from judo_edge.station.config import RetentionTable
from judo_edge.station.results import utc_now
from judo_edge.station.workers import Kept
from judo_edge.vision.geometry import mask_image_from_cells

"""Of the station's data folder."""
QUALITY = 95
MAX_HELD, MAX_HELD_BYTES = 32, 256 << 20
"""Frames that wait for `keep`, and their pixels; the last frame is held whatever its size."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Held:
    """A frame that may be kept."""

    image: Image
    mask: CellMask | None = None


class HeldFrames:
    """The last frames by job, until their results are known; the oldest go first. Safe for several threads."""

    def __init__(self, max_bytes: int = MAX_HELD_BYTES) -> None:
        """Hold nothing yet."""
        self._max_bytes, self._num_bytes = max_bytes, 0
        self._frames: OrderedDict[str, Held] = OrderedDict()
        self._lock = threading.Lock()

    def hold(self, job_id: str, frame: Held) -> None:
        """Hold a frame, again when more is known of it."""
        with self._lock:
            self._forget(job_id)
            self._frames[job_id] = frame
            self._num_bytes += frame.image.nbytes
            while len(self._frames) > 1 and (self._num_bytes > self._max_bytes or len(self._frames) > MAX_HELD):
                self._forget(next(iter(self._frames)))

    def take(self, job_id: str) -> Held | None:
        """Return a job's frame and hold it no longer; None when it is not held."""
        with self._lock:
            return self._forget(job_id)

    def _forget(self, job_id: str) -> Held | None:
        frame = self._frames.pop(job_id, None)
        self._num_bytes -= frame.image.nbytes if frame else 0
        return frame


class Archive:
    """The folder of photos and masks."""

    def __init__(self, folder: Path, retention: RetentionTable) -> None:
        """Name the folder; it is made with the first photo."""
        self.folder, self._photos = folder, retention.photos

    def wants(self, decision: Decision) -> bool:
        """Tell whether photos of such results are kept."""
        return self._photos == "all" or (self._photos == "not-ok" and decision is not Decision.OK)

    def keep(self, frame: Held, result_id: str, decision: Decision) -> Kept:
        """Write a frame's photo and mask; when the disk refuses nothing is kept, and a warning says why."""
        folder = self.folder / utc_now()[:10] / decision.value
        stem = file_stem(result_id)
        files = {"photo": (folder / f"{stem}.jpg", jpeg_from_photo(frame.image))}
        if frame.mask:
            picture = mask_image_from_cells(frame.mask, *frame.image.shape[:2])
            files["mask_file"] = (folder / f"{stem}.png", png_from_image(picture))
        try:
            _write(folder, dict(files.values()))
        except OutputError as error:
            _log.warning("result %s is kept without its photo: %s", result_id, error)
            for path, _ in files.values():
                path.unlink(missing_ok=True)
            return Kept()
        names = {name: path.relative_to(self.folder).as_posix() for name, (path, _) in files.items()}
        return Kept(**names, num_bytes=sum(len(data) for _, data in files.values()))


def decision_from_text(text: str) -> Decision:
    """Return the decision of that name; InputError for another text."""
    try:
        return Decision(text)
    except ValueError:
        raise InputError(f"decision {text!r}", f"one of {', '.join(one.value for one in Decision)}") from None


def jpeg_from_photo(image: Image) -> bytes:
    """Return a JPEG of the whole photo, hardly changed."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def _write(folder: Path, files: dict[Path, bytes]) -> None:
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            write_atomic(path, data, force=True)
        sync_to_disk(folder)
