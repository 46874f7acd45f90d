"""Photos from files: one way to decode, to identify and to compare scenes, for all rooms. Knows no model."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from judo_edge.core import Floats, Image
from judo_edge.errors import ImageError, first_line

PHOTO_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
_THUMBNAIL = 32


def image_from_file(path: Path) -> Image:
    """Decode a photo to RGB; ImageError names the file and says what is wrong with it.

    The pixels are taken as stored (an EXIF rotation is not applied, as masks and the model's training do not apply it),
    transparency is dropped, and more than 8 bits per channel is refused because Pillow would clip it silently.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
            with PillowImage.open(path) as photo:
                if photo.mode in _DEEP_MODES:
                    raise ImageError(f"{path.name}: {photo.mode} pixels", "8 bits per channel", "convert the photo")
                return np.ascontiguousarray(np.asarray(photo.convert("RGB")))
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file", "a photo", "check the path") from error
    except Exception as error:  # decoders raise many kinds, and each means the same: not a usable photo
        raise ImageError(f"{path.name}: {first_line(error)}", "a photo that decodes", "replace the file") from error


def sha256_from_image(image: Image) -> str:
    """Return the SHA-256 hex of decoded pixels; the shape is part of it, so a reshaped photo is another photo."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def thumbnail_from_image(image: Image) -> Floats:
    """Return a (32, 32, 3) float32 thumbnail in 0..1 with its mean brightness removed, to compare scenes."""
    small = PillowImage.fromarray(image).resize((_THUMBNAIL, _THUMBNAIL), PillowImage.Resampling.BOX)
    values = np.asarray(small, dtype=np.float32) / 255.0
    centred: Floats = values - values.mean()
    return centred
