"""Photos for people and for choosing: thumbnails, JPEG and PNG. Decoding is in `vision.photos`. Knows no model."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps

from judo_edge.core import Image
from judo_edge.vision.photos import thumbnail_from_image

__all__ = ["jpeg_from_image", "png_from_image", "thumbnail_from_image"]


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
