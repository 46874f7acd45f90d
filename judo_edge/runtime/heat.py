"""The feature distance as a picture to lie over a photo: finer than the grid of the mask. Knows no report."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from judo_edge.core import Floats
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.partfeatures import STANDS_OUT

LONGEST_SIDE = 160
"""Pixels of the longer side: the map has some 40 places along a side, a browser smooths the rest."""
_FULL = 3 * STANDS_OUT
"""In the unit of the map: from here on the colour does not change."""
_COOL, _HOT = np.array([255, 214, 0], np.float32), np.array([230, 20, 20], np.float32)


def heat_from_inspection(inspection: Inspection, height: int, width: int) -> Floats | None:
    """Return (h, w) float32 over the frame as it was taken, in the unit of the feature map; None without one.

    The longer side has `LONGEST_SIDE` pixels. Where an aligned photo does not show the frame, the heat is 0.
    """
    if inspection.features is None:
        return None
    scale = LONGEST_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    heat = inspection.features.heat(size[1], size[0])
    if inspection.alignment is None or inspection.alignment.matrix is None:
        return heat
    matrix = inspection.alignment.matrix.copy()
    matrix[:, 2] *= scale
    return np.asarray(cv2.warpAffine(heat, matrix, size, flags=cv2.INTER_LINEAR), dtype=np.float32)


def png_from_heat(heat: Floats) -> bytes:
    """Return an RGBA PNG of (h, w) heat: clear up to what good parts show, then yellow to red."""
    buffer = io.BytesIO()
    PillowImage.fromarray(_coloured(heat), "RGBA").save(buffer, "PNG")
    return buffer.getvalue()


def _coloured(heat: Floats) -> npt.NDArray[np.uint8]:
    """Return (h, w, 4) uint8: colour and opacity grow from 1, the top of good parts, to `_FULL`."""
    share = np.clip((heat - 1) / (_FULL - 1), 0, 1)[..., None]
    colour = _COOL + (_HOT - _COOL) * share
    opacity = np.where(share > 0, 64 + 127 * share, 0)
    return np.asarray(np.concatenate([colour, opacity], axis=2).round(), dtype=np.uint8)
