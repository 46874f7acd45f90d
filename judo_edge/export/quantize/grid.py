"""Rounding to a grid: integers of 8 or 4 bits and one scale for each channel, or for each block of a channel.

Symmetric, to the nearest integer, ties to even. A scale is rounded to the type that it is stored in before anything is
divided by it, so that the integers fit what a runtime multiplies them with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats
from judo_edge.errors import CheckpointError

Codes = npt.NDArray[np.int8]
"""Integers as int8, (outputs, inputs), whatever their number of bits."""

_CLIPS: dict[int, tuple[float, ...]] = {8: (0.99, 0.98, 0.97, 0.96), 4: (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)}
"""Shares of the largest weight that are tried as the end of the grid. With 8 bits, cutting one weight of 3,584 costs
more than the finer steps give as soon as the share is below about 0.96; with 4 bits in blocks of 128 about 0.7."""


@dataclass(frozen=True)
class Grid:
    """Which integers, and which weights share a scale."""

    bits: Literal[4, 8] = 8
    block: int = 0
    """Consecutive inputs of one output that share a scale; 0 = all of them."""
    scale_type: Literal["float32", "float16"] = "float32"
    """Type that scales are stored in."""
    is_searched: bool = False
    """Whether the range is clipped where that lowers the squared error."""

    @property
    def limit(self) -> int:
        """Return the greatest integer: 127 or 7."""
        return int(2 ** (self.bits - 1) - 1)

    def width(self, in_features: int) -> int:
        """Return how many inputs share a scale."""
        return self.block or in_features

    def num_scales(self, in_features: int) -> int:
        """Return the scales of one output; the last block may be a part of one."""
        return -(-in_features // self.width(in_features))


def quantized(rows: Floats, grid: Grid) -> tuple[Codes, Floats]:
    """Round rows (n, in) to the nearest integers (n, in) int8 with their scales (n, blocks) float32."""
    scales = scales_from_rows(rows, grid)
    return codes_from_rows(rows, scales, grid), scales


def scales_from_rows(rows: Floats, grid: Grid) -> Floats:
    """Return the scales (n, blocks) of rows (n, in), each a value of the grid's scale type.

    The largest weight of a block becomes the greatest integer. A block of zeros gets scale 1, so that no scale is zero.
    Raises CheckpointError when the scale type cannot hold one.
    """
    blocks = _blocks(rows, grid)
    scales = _stored(np.maximum(blocks.max(axis=2), -blocks.min(axis=2)) / np.float32(grid.limit), grid)
    if not grid.is_searched:
        return scales
    errors, best = _errors(blocks, scales, grid), scales
    for clip in _CLIPS[grid.bits]:
        tried = _stored(scales * np.float32(clip), grid)
        found = _errors(blocks, tried, grid)
        best = np.where(found < errors, tried, best)
        errors = np.minimum(found, errors)
    return best


def codes_from_rows(rows: Floats, scales: Floats, grid: Grid) -> Codes:
    """Return the integers (n, in) nearest to rows (n, in) by scales (n, blocks)."""
    values = _blocks(rows, grid) / scales[:, :, None]
    np.rint(values, out=values)
    np.clip(values, -grid.limit, grid.limit, out=values)
    return values.astype(np.int8).reshape(len(rows), -1)[:, : rows.shape[1]]


def rows_from_codes(codes: Codes, scales: Floats, grid: Grid) -> Floats:
    """Return the float32 rows (n, in) that integers stand for: the reference for tests and parity."""
    width = grid.width(codes.shape[1])
    values: Floats = codes * np.repeat(scales, width, axis=1)[:, : codes.shape[1]]
    return values


def _blocks(rows: Floats, grid: Grid) -> Floats:
    """Return rows as (n, blocks, width); the last block is padded with zeros."""
    count, size = rows.shape
    width = grid.width(size)
    if size % width == 0:
        return rows.reshape(count, -1, width)
    padded = np.zeros((count, grid.num_scales(size) * width), np.float32)
    padded[:, :size] = rows
    return padded.reshape(count, -1, width)


def _stored(scales: Floats, grid: Grid) -> Floats:
    with np.errstate(over="ignore"):
        values: Floats = scales.astype(grid.scale_type).astype(np.float32)
    if not np.isfinite(values).all():
        action = "choose a recipe with dtype float32"
        raise CheckpointError(
            f"weights up to {scales.max() * grid.limit:.3g} need a scale above {grid.scale_type}'s", "", action
        )
    values[values < np.finfo(np.float32).tiny] = 1
    return values


def _errors(blocks: Floats, scales: Floats, grid: Grid) -> Floats:
    """Return the squared error of each block, (n, blocks)."""
    steps = blocks / scales[:, :, None]
    steps -= np.clip(np.rint(steps), -grid.limit, grid.limit)
    errors: Floats = np.einsum("nbi,nbi->nb", steps, steps) * scales**2
    return errors
