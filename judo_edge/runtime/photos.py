"""Photos for people and for choosing: thumbnails, JPEG and PNG. Decoding is in `vision.photos`. Knows no model."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps

from judo_edge.core import Floats, Image

_THUMBNAIL = 32


def thumbnail_from_image(image: Image) -> Floats:
    """Return a (32, 32, 3) float32 thumbnail in 0..1 with its mean brightness removed, to compare scenes."""
    small = PillowImage.fromarray(image).resize((_THUMBNAIL, _THUMBNAIL), PillowImage.Resampling.BOX)
    values = np.asarray(small, dtype=np.float32) / 255.0
    centred: Floats = values - values.mean()
    return centred


def jpeg_from_image(image: Image, longest: int) -> bytes:
    """Return a JPEG no longer than `longest` pixels on a side, for a report."""
    photo = PillowImage.fromarray(image)
    photo = ImageOps.contain(photo, (longest, longest)) if max(photo.size) > longest else photo
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def png_from_image(image: npt.NDArray[np.uint8]) -> bytes:
    """Return a PNG of (H, W) or (H, W, 3) uint8 pixels."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
