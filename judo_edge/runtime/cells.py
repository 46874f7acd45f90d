"""Scores of single cells: from the dense probe where the bundle has one, else from the mask that JUDO wrote."""

from __future__ import annotations

import math

import numpy as np

from judo_edge.core import CellMask, Floats
from judo_edge.errors import BundleError


def cell_scores_from_probe(tokens: Floats, rows: int, cols: int) -> Floats:
    """Return (rows, cols) logits from the probe's (T, K) on the tokens of a photo.

    T tokens form a square; the K = k * k values of a token are its sub-cells, row by row. When that grid is not the
    reply's grid (18 x 18 tokens under 16 x 16 cells), a cell takes the value at its centre, linearly interpolated.
    """
    side, sub = math.isqrt(tokens.shape[0]), math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[0] or sub * sub != tokens.shape[1]:
        raise BundleError(f"a cell probe of shape {tokens.shape}", "square numbers", "export the bundle again")
    grid = tokens.reshape(side, side, sub, sub).transpose(0, 2, 1, 3).reshape(side * sub, side * sub)
    return resampled(grid, rows, cols)


def resampled(grid: Floats, rows: int, cols: int) -> Floats:
    """Return (rows, cols) values of a grid at the centres of so many equal parts, interpolated linearly."""
    values: Floats = _resampled(_resampled(grid, rows).T, cols).T
    return values


def cell_scores_from_mask(mask: CellMask) -> Floats:
    """Return (rows, cols) float32: 1 in marked cells, 0 elsewhere."""
    return mask.to_array().astype(np.float32)


def _resampled(grid: Floats, length: int) -> Floats:
    """Interpolate the first axis linearly at the centres of `length` equal parts."""
    if grid.shape[0] == length:
        return grid
    at = np.clip((np.arange(length) + 0.5) * grid.shape[0] / length - 0.5, 0, grid.shape[0] - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, grid.shape[0] - 1)
    share = (at - low).astype(np.float32)[:, None]
    blended: Floats = grid[low] * (1 - share) + grid[high] * share
    return blended
