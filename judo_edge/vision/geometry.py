"""Sizes and places: patch grid, visual tokens, and the cell grid on a photo.

Knows how a photo is cut into patches and cells. Does not touch colours (see `patches`) and knows no text.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from judo_edge.core import Bools, CellMask, Ints

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Channel means of the Qwen2-VL image processor, RGB, after scaling to 0..1."""
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Channel standard deviations of the Qwen2-VL image processor, RGB, after scaling to 0..1."""

Positive = Annotated[int, Field(gt=0)]


class Preprocessing(BaseModel):
    """How a photo becomes patches; recorded in the bundle, never guessed.

    `resize` and `image_size` are pixels of a square: LANCZOS to the first, then BICUBIC to the second if it differs;
    the aspect ratio is not kept. `image_size` must be a multiple of patch_size * merge_size (ValueError).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: Positive
    image_size: Positive
    patch_size: Positive = 14
    temporal_patch_size: Positive = 2
    merge_size: Positive = 2
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    @model_validator(mode="after")
    def _check_size(self) -> Preprocessing:
        block = self.patch_size * self.merge_size
        if self.image_size % block:
            raise ValueError(f"image_size {self.image_size} is not a multiple of {block} (patch_size * merge_size)")
        return self

    @property
    def grid_thw(self) -> tuple[int, int, int]:
        """Return the patch grid (time, height, width) of one photo."""
        side = self.image_size // self.patch_size
        return 1, side, side

    @property
    def num_patches(self) -> int:
        """Return the number of patches of one photo."""
        _, height, width = self.grid_thw
        return height * width

    @property
    def patch_length(self) -> int:
        """Return the values in one patch: channels x time x height x width."""
        return 3 * self.temporal_patch_size * self.patch_size**2

    @property
    def merged_side(self) -> int:
        """Return the side of the grid of visual tokens."""
        return self.image_size // (self.patch_size * self.merge_size)

    @property
    def num_tokens(self) -> int:
        """Return the number of visual tokens of one photo."""
        return self.merged_side**2


def image_tokens(image_size: int, patch_size: int = 14, merge_size: int = 2) -> int:
    """Return the number of visual tokens of a square photo of `image_size` pixels (324 for 504, 64 for 224)."""
    return Preprocessing(
        resize=image_size, image_size=image_size, patch_size=patch_size, merge_size=merge_size
    ).num_tokens


def edges(length: int, parts: int) -> Ints:
    """Return the parts + 1 pixel boundaries along a side of `length` pixels: linspace, truncated (JUDO's rule)."""
    return np.linspace(0, length, parts + 1).astype(np.int64)


def cell_box(cell: tuple[int, int], rows: int, cols: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the half-open pixel box (left, top, right, bottom) of a 1-based cell on a height x width photo."""
    ys, xs = edges(height, rows), edges(width, cols)
    row, col = cell
    return int(xs[col - 1]), int(ys[row - 1]), int(xs[col]), int(ys[row])


def coverage_from_mask_image(mask: Bools, rows: int, cols: int) -> npt.NDArray[np.float64]:
    """Return for each cell the share of its pixels that are set in `mask` (H, W), as (rows, cols) in 0..1.

    A cell without pixels (photo smaller than the grid) counts as 0.
    """
    ys, xs = edges(mask.shape[0], rows), edges(mask.shape[1], cols)
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    sums[1:, 1:] = np.asarray(mask, dtype=np.bool_).cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    counts = np.diff(np.diff(sums[np.ix_(ys, xs)], axis=0), axis=1)
    areas = np.outer(np.diff(ys), np.diff(xs))
    shares: npt.NDArray[np.float64] = counts / np.maximum(areas, 1)
    return shares


def cells_from_mask_image(mask: Bools, rows: int, cols: int, coverage: float = 0.02) -> CellMask:
    """Return the cells of which at least the share `coverage` is set in `mask` (H, W) bool.

    2 % of a cell is JUDO's own rule. A defect that reaches it in no cell gives an empty mask, as in its last training
    stage.
    """
    return CellMask.from_array(coverage_from_mask_image(mask, rows, cols) >= coverage)


def mask_image_from_cells(cells: CellMask, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return a (height, width) uint8 picture with 255 in the defective cells and 0 elsewhere."""
    array = cells.to_array().astype(np.uint8) * np.uint8(255)
    heights, widths = np.diff(edges(height, cells.rows)), np.diff(edges(width, cells.cols))
    return np.repeat(np.repeat(array, heights, axis=0), widths, axis=1)
