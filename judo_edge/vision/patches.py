"""From a photo to the patch rows that the vision graph takes.

One function for calibration, parity and runtime, equal to the pixel values of transformers' Qwen2-VL image processor
(PIL form) after JUDO's own resize. Knows no files and no model.
"""

from __future__ import annotations

import numpy as np
from PIL import Image as PilImage

from judo_edge.core import Floats, Image
from judo_edge.errors import ImageError
from judo_edge.vision.geometry import Preprocessing


def patches_from_image(image: Image, preprocessing: Preprocessing) -> Floats:
    """Return the normalised patches of a photo, (num_patches, 3 * temporal * patch * patch) float32.

    `image` is (H, W, 3) RGB uint8 of any size. Rows come in merge-block order (the merge_size x merge_size patches of
    one visual token are neighbours, tokens row by row); inside a row the order is channel, time, y, x. Raises
    ImageError for another shape or type.
    """
    return _rows_from_pixels(resized_image(image, preprocessing), preprocessing)


def resized_image(image: Image, preprocessing: Preprocessing) -> Image:
    """Return the photo as the model sees it: (image_size, image_size, 3) uint8.

    LANCZOS to `resize`, then BICUBIC to `image_size` where it differs, both by Pillow, aspect ratio not kept. Raises
    ImageError if `image` is not (H, W, 3) uint8 with at least one pixel.
    """
    _check_image(image)
    first, second = preprocessing.resize, preprocessing.image_size
    photo = PilImage.fromarray(np.ascontiguousarray(image))
    photo = photo.resize((first, first), PilImage.Resampling.LANCZOS)
    if second != first:
        photo = photo.resize((second, second), PilImage.Resampling.BICUBIC)
    return np.asarray(photo, dtype=np.uint8)


def _check_image(image: Image) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ImageError(
            f"photo array of shape {image.shape} and type {image.dtype}",
            "(height, width, 3) uint8 RGB",
            "decode the photo as 8-bit RGB",
        )


def _value_table(preprocessing: Preprocessing) -> Floats:
    """Return the (256, 3) float32 value of each byte in each channel; a table gives the same bits as arithmetic."""
    scaled = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    table: Floats = (scaled[:, None] - mean) / std
    return table


def _rows_from_pixels(pixels: Image, preprocessing: Preprocessing) -> Floats:
    """Put bytes in their order first, because they are small, and look their values up channel by channel."""
    p, m, side = preprocessing.patch_size, preprocessing.merge_size, preprocessing.merged_side
    blocks = pixels.reshape(side, m, p, side, m, p, 3).transpose(6, 0, 3, 1, 4, 2, 5)
    rows = np.empty((side, side, m, m, 3, preprocessing.temporal_patch_size, p, p), np.float32)
    for channel, table in enumerate(_value_table(preprocessing).T.copy()):
        rows[:, :, :, :, channel] = table[blocks[channel]][:, :, :, :, None]
    return rows.reshape(preprocessing.num_patches, preprocessing.patch_length)
