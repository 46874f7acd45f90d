"""A frame laid over its reference: moved, turned and scaled, if that does not distort it beyond the part's recipe.

The motion is estimated on small grey photos; what it would do is checked before anything is warped, and a frame that
would be distorted is used as it is. Knows no model and no store.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from judo_edge.core import Bools, CellMask, Floats, Image
from judo_edge.runtime.motion import (
    Motion,
    MotionError,
    correlation,
    fine_from_grey,
    motion_from_ecc,
    motion_from_features,
    moved_to,
    sizes_of_motion,
    warped,
)
from judo_edge.runtime.partrecipe import PartRecipe
from judo_edge.runtime.references import ReferencePhoto
from judo_edge.vision.geometry import cell_box, cells_from_mask_image, edges, mask_image_from_cells

_SIDE = 320
"""Pixels of the longer side on which the motion is estimated; it is found to a tenth of them."""
_MIN_GAIN = 0.005
"""By how much the correlation must grow; less is noise, and warping blurs."""
_COVERAGE = 0.5
"""Share of a cell that a moved mask must cover."""
_NUM_REFERENCES = 8
"""References whose pixels stay decoded."""


class Look(NamedTuple):
    """A photo as motions are estimated on it; both (h, w) float32."""

    grey: Floats
    fine: Floats
    """Without its coarse brightness."""


_ESTIMATORS: dict[str, Callable[[Look, Look], Motion]] = {
    "ecc-translation": lambda first, second: motion_from_ecc(first.grey, second.grey, cv2.MOTION_TRANSLATION),
    "ecc-euclidean": lambda first, second: motion_from_ecc(first.grey, second.grey, cv2.MOTION_EUCLIDEAN),
    "ecc-affine": lambda first, second: motion_from_ecc(first.grey, second.grey, cv2.MOTION_AFFINE),
    "features": lambda first, second: motion_from_features(first.grey, second.grey),
}


@dataclass(frozen=True)
class Alignment:
    """What became of a frame."""

    image: Image
    """(H, W, 3) of the frame's size: the frame as it lies over its reference, or as it was."""
    refusal: str = ""
    """Why the frame is used as it was; empty when it was moved."""
    matrix: Motion | None = None
    """(2, 3) float64: the place in the frame, in pixels, of a place (x, y, 1) of `image`; None when it is as it was."""
    outside: float = 0.0
    """Share of `image` that the frame does not show, filled from the reference: nothing can be seen there."""
    lost: float = 0.0
    """Share of the frame that `image` does not show: a defect there is not seen either."""
    before: float = math.nan
    """Correlation, -1 to 1, of reference and frame where the aligned one covers it; not a number without a motion."""
    after: float = math.nan
    """The same of the aligned frame."""


class Aligner:
    """Aligns the frames of one part as its recipe says."""

    def __init__(self, recipe: PartRecipe) -> None:
        """Keep the recipe; the references used last stay decoded."""
        self.recipe = recipe
        self._pixels = lru_cache(maxsize=_NUM_REFERENCES)(lambda reference: reference.load())
        self._look = lru_cache(maxsize=_NUM_REFERENCES)(
            lambda reference, size: look_from_image(self._pixels(reference), size)
        )

    def align(self, frame: Image, reference: ReferencePhoto) -> Alignment:
        """Lay a (H, W, 3) frame over a reference, which may be of another size; refused, it is returned as it was.

        Raises InputError when the reference cannot be read.
        """
        if self.recipe.align == "none":
            return Alignment(frame, "the part's recipe aligns nothing")
        size = _small_size(frame)
        first, second = self._look(reference, size), look_from_image(frame, size)
        try:
            motion = _ESTIMATORS[self.recipe.align](first, second)
            _check_sizes(motion, size, self.recipe)
            before, after = _correlations(first, second, motion, self.recipe)
        except MotionError as error:
            return Alignment(frame, str(error))
        if after < self.recipe.min_correlation or after < before + _MIN_GAIN:
            return Alignment(frame, _why_not(before, after, self.recipe), before=before, after=after)
        return _moved(frame, self._pixels(reference), motion, size, (before, after))


def look_from_image(image: Image, size: tuple[int, int]) -> Look:
    """Return a photo in grey at (width, height) pixels."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return Look(grey, fine_from_grey(grey))


def cells_in_frame(mask: CellMask, alignment: Alignment) -> CellMask:
    """Return where the cells of an aligned photo lie in the frame as it was taken.

    A cell of the frame is marked when half of it is covered, or when a marked cell's centre lies in it, so that none is
    lost between cells; what lies outside the frame is dropped.
    """
    if alignment.matrix is None:
        return mask
    height, width = alignment.image.shape[:2]
    picture = mask_image_from_cells(mask, height, width)
    moved = cv2.warpAffine(picture, alignment.matrix, (width, height), flags=cv2.INTER_NEAREST)
    covered = cells_from_mask_image(moved > 0, mask.rows, mask.cols, _COVERAGE).cells
    centres = (_cell_of_centre(cell, mask, alignment.matrix, height, width) for cell in mask.cells)
    return CellMask.of(mask.rows, mask.cols, {*covered, *(cell for cell in centres if cell is not None)})


def _cell_of_centre(
    cell: tuple[int, int], mask: CellMask, matrix: Motion, height: int, width: int
) -> tuple[int, int] | None:
    left, top, right, bottom = cell_box(cell, mask.rows, mask.cols, height, width)
    x, y = matrix @ np.array([(left + right - 1) / 2, (top + bottom - 1) / 2, 1.0])
    row, col = (
        int(np.searchsorted(edges(length, parts), place, side="right"))
        for length, parts, place in ((height, mask.rows, y), (width, mask.cols, x))
    )
    return (row, col) if 1 <= row <= mask.rows and 1 <= col <= mask.cols else None


def _check_sizes(motion: Motion, size: tuple[int, int], recipe: PartRecipe) -> None:
    """Raise MotionError when a motion does more than the recipe allows."""
    width, height = size
    found = sizes_of_motion(motion, height, width)
    for name, value, limit in (
        ("shifted by {:.1%} of its side", found.shift / max(size), recipe.max_shift),
        ("turned by {:.1f} degrees", found.rotation, recipe.max_rotation),
        ("scaled by {:.1%}", abs(found.scale - 1), recipe.max_scale),
        ("sheared by {:.1%}", found.shear - 1, recipe.max_shear),
    ):
        if value > limit:
            raise MotionError(f"the frame would be {name.format(value)}, more than {limit:g} allows")


def _correlations(first: Look, second: Look, motion: Motion, recipe: PartRecipe) -> tuple[float, float]:
    """Return the correlation before and after, where the moved frame lies; MotionError when that is too little."""
    covered = _covered(motion, (first.fine.shape[1], first.fine.shape[0]))
    if covered.mean() < recipe.min_overlap:
        raise MotionError(f"frame and reference overlap by {covered.mean():.0%}, less than {recipe.min_overlap:.0%}")
    fixed, moved = first.fine[covered], warped(second.fine, motion)[covered]
    return correlation(fixed, second.fine[covered]), correlation(fixed, moved)


def _why_not(before: float, after: float, recipe: PartRecipe) -> str:
    if after < recipe.min_correlation:
        return f"frame and reference are not alike: correlation {after:.2f}, less than {recipe.min_correlation:g}"
    return f"the frame lies no better when moved: correlation {before:.3f} before, {after:.3f} after"


def _moved(
    frame: Image, reference: Image, motion: Motion, size: tuple[int, int], correlations: tuple[float, float]
) -> Alignment:
    """Warp the frame; what it does not show comes from the reference, in the frame's mean colour.

    A repeated border would look like a defect, and the reference's own pixels hide none: the frame has nothing there.
    """
    height, width = frame.shape[:2]
    matrix = moved_to(motion, width / size[0], height / size[1])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(frame, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    image = np.asarray(moved, dtype=np.uint8)
    covered = _covered(matrix, (width, height))
    if not covered.all():
        fill = cv2.resize(reference, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        fill += image[covered].mean(axis=0) - fill[covered].mean(axis=0)
        image[~covered] = np.clip(fill[~covered].round(), 0, 255).astype(np.uint8)
    seen = _covered(_inverse(matrix), (width, height))
    return Alignment(image, "", matrix, 1 - float(covered.mean()), 1 - float(seen.mean()), *correlations)


def _covered(motion: Motion, size: tuple[int, int]) -> Bools:
    """Return (height, width) where the places that a motion leads to lie inside a photo of the same size."""
    whole = np.full((size[1], size[0]), 255, np.uint8)
    return np.asarray(cv2.warpAffine(whole, motion, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP) > 0)


def _inverse(motion: Motion) -> Motion:
    return np.asarray(cv2.invertAffineTransform(motion), dtype=np.float64)


def _small_size(image: Image) -> tuple[int, int]:
    height, width = image.shape[:2]
    share = min(1.0, _SIDE / max(height, width))
    return max(1, round(width * share)), max(1, round(height * share))
