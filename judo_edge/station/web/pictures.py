"""Photos of the archive as small JPEGs for browsers. Knows paths that the station gave and nothing of who asks."""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from pathlib import Path

from PIL import Image as PillowImage

from judo_edge.errors import ImageError, first_line

SIZES = (240, 640, 1280, 2048)
"""Pixels of the longest side that may be asked for."""
MAX_PIXELS = 80_000_000
"""Of a photo: a small file can claim to be huge."""
_CACHED = 200
_QUALITY = 85


class Pictures:
    """Keeps the latest in memory."""

    def __init__(self) -> None:
        """Begin with none."""
        self._cache: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._working = asyncio.Semaphore(2)

    async def jpeg(self, path: Path, size: int) -> bytes | None:
        """Return a photo no longer than `size` pixels on a side; None when the file has gone. Raises ImageError."""
        try:
            key = (str(path), path.stat().st_mtime_ns, size)
        except OSError:
            return None
        if key not in self._cache:
            async with self._working:
                self._cache[key] = await asyncio.to_thread(jpeg_from_file, path, size)
            while len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


def jpeg_from_file(path: Path, size: int) -> bytes:
    """Decode, shrink and encode; ImageError when it is no photo.

    Pixels stay as stored, as the model read them: an EXIF rotation would turn the photo under its mask.
    """
    buffer = io.BytesIO()
    try:
        with PillowImage.open(path) as photo:
            _check_pixels(photo, path)
            photo.draft("RGB", (size, size))
            small = photo.convert("RGB")
            small.thumbnail((size, size))
            small.save(buffer, "JPEG", quality=_QUALITY)
    except (OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError) as error:
        raise ImageError(f"{path.name} cannot be shown: {first_line(error)}", "a photo") from error
    return buffer.getvalue()


def check_photo(path: Path) -> str:
    """Return the format of a photo that decodes whole (`JPEG`, `PNG`, ...); ImageError for anything else."""
    try:
        with PillowImage.open(path, formats=("JPEG", "PNG", "BMP", "TIFF", "WEBP")) as photo:
            _check_pixels(photo, path)
            photo.load()
            return str(photo.format)
    except (OSError, ValueError, SyntaxError, PillowImage.DecompressionBombError) as error:
        wanted = "a photo: JPEG, PNG, BMP, TIFF or WebP"
        raise ImageError("the upload cannot be decoded", wanted, "choose another file") from error


def _check_pixels(photo: PillowImage.Image, path: Path) -> None:
    if photo.width * photo.height > MAX_PIXELS:
        raise ImageError(f"{path.name} has {photo.width} x {photo.height} pixels", f"at most {MAX_PIXELS}")
