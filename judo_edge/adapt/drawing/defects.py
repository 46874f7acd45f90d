"""Defects drawn on photos of real good parts, of any size: a scratch, a spot, a stain, a patch copied from elsewhere.

What counts as defective is what can be seen: the pixels that a defect changed by at least `VISIBLE` grey levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from judo_edge.adapt.drawing.parts import Rng, contrasting, smooth_noise
from judo_edge.adapt.drawing.shapes import Shape
from judo_edge.core import Bools, Floats, Image

VISIBLE = 10
"""Grey levels of the channel that changed most."""
_LEAST = 3e-4
"""Share of the photo that must be visibly changed: about a cell of 16 x 16 by the 2 % rule, four times over."""
_ATTEMPTS = 8
_GRID = 32

SIZES = {"scratch": (0.08, 0.35), "spot": (0.03, 0.14), "stain": (0.08, 0.3), "patch": (0.06, 0.25)}
"""Side of the square that a defect lies in, as a share of the photo's shorter side: least and greatest."""


@dataclass(frozen=True)
class Drawn:
    """A photo (H, W, 3) with its defective pixels (H, W), all False for a good part."""

    image: Image
    mask: Bools


def with_defect(rng: Rng, photo: Image, other: Image) -> Drawn:
    """Draw one defect that can be seen; a copied patch comes from the photo itself or from `other`."""
    for _ in range(_ATTEMPTS):
        kind = str(rng.choice(list(SIZES)))
        found = _drawn(rng, kind, photo, other)
        if found.mask.mean() >= _LEAST:
            return found
    return _drawn(rng, "spot", photo, other, opacity=1.0)


def _drawn(rng: Rng, kind: str, photo: Image, other: Image, opacity: float | None = None) -> Drawn:
    side = min(photo.shape[:2])
    size = max(4, min(side, round(side * rng.uniform(*SIZES[kind]))))
    row, col = _place(rng, photo, size)
    box = np.s_[row : row + size, col : col + size]
    before = photo[box].astype(np.float32)
    content = _copied(rng, photo, other, size) if kind == "patch" else _coloured(rng, before)
    alpha = _ALPHAS[kind](rng, size) * (rng.uniform(0.35, 1.0) if opacity is None else opacity)
    image = photo.copy()
    image[box] = np.clip(before + alpha[:, :, None] * (content - before), 0, 255).astype(np.uint8)
    mask = np.zeros(photo.shape[:2], np.bool_)
    mask[box] = np.abs(image[box].astype(np.float32) - before).max(axis=2) >= VISIBLE
    return Drawn(image, mask)


def _place(rng: Rng, photo: Image, size: int) -> tuple[int, int]:
    """Choose the upper left corner of a square; of some places often the one with most detail, where a part is."""
    room = np.array(photo.shape[:2]) - size
    places = (rng.random((1 if rng.random() < 0.4 else 6, 2)) * (room + 1)).astype(np.int64)
    grey = cv2.resize(photo.mean(axis=2).astype(np.float32), (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    detail = np.abs(grey - cv2.blur(grey, (5, 5)))
    centres = ((places + size / 2) / photo.shape[:2] * _GRID).astype(np.int64)
    best = int(np.argmax([detail[row, col] for row, col in centres]))
    return int(places[best, 0]), int(places[best, 1])


def _coloured(rng: Rng, before: Floats) -> npt.NDArray[np.float32]:
    """Return a colour (3,) that differs from what is there: darker or lighter, or another one."""
    local = before.reshape(-1, 3).mean(axis=0)
    if rng.random() < 0.5:
        shade, towards = rng.uniform(0.3, 0.9), 0 if rng.random() < 0.6 else 255
        return np.asarray(local + shade * (towards - local), np.float32)
    return np.asarray(contrasting(rng, local, float(rng.uniform(60, 150))), np.float32)


def _copied(rng: Rng, photo: Image, other: Image, size: int) -> Floats:
    """Return a turned square (size, size, 3) from another place."""
    source = photo if rng.random() < 0.5 or min(other.shape[:2]) < size else other
    row, col = (int(rng.integers(0, length - size + 1)) for length in source.shape[:2])
    cut = np.rot90(source[row : row + size, col : col + size], int(rng.integers(0, 4)))
    return np.asarray(cut[:, ::-1] if rng.random() < 0.5 else cut, np.float32)


def _scratch(rng: Rng, size: int) -> Floats:
    """Return the opacity (size, size) of a bent line from edge to edge."""
    heading, step = rng.uniform(0, 2 * np.pi), size / 3.2
    points = [(0.0, 0.0)]
    for _ in range(3):
        points.append((points[-1][0] + step * np.cos(heading), points[-1][1] + step * np.sin(heading)))
        heading += rng.normal(0, 0.35)
    middle = np.mean(points, axis=0)
    centred = tuple((float(x - middle[0]), float(y - middle[1])) for x, y in points)
    thickness = max(1, round(size * rng.uniform(0.03, 0.1)))
    line = Shape("path", size / 2, size / 2, size / 2, (0, 0, 0), points=centred, thickness=thickness)
    return _soft(line.coverage(size), size)


def _spot(rng: Rng, size: int) -> Floats:
    aspect, angle = rng.uniform(0.5, 1), rng.uniform(0, 180)
    return _soft(Shape("disc", size / 2, size / 2, 0.47 * size, (0, 0, 0), aspect, angle).coverage(size), size)


def _stain(rng: Rng, size: int) -> Floats:
    """Return the opacity (size, size) of a blob with an uneven edge."""
    down, across = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    blob = np.hypot(down, across) + 0.18 * smooth_noise(rng, 5, size) < 0.75
    return _soft(blob, size)


def _soft(shape: Bools, size: int) -> Floats:
    """Return the shape as opacity with a soft edge."""
    return np.asarray(cv2.GaussianBlur(shape.astype(np.float32), (0, 0), max(0.5, 0.015 * size)), np.float32)


_ALPHAS = {"scratch": _scratch, "spot": _spot, "stain": _stain, "patch": _stain}
