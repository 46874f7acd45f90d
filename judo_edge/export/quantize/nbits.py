"""The layout of ONNX Runtime's MatMulNBits (com.microsoft, opset 1), 8 or 4 bits, without zero points.

Weights uint8 (out, blocks, block * bits / 8) with 128 or 8 in the place of zero, scales (out * blocks,). With 4 bits
the first of two neighbours lies in the low half of a byte.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats
from judo_edge.export.quantize.grid import Codes, Grid, quantized, rows_from_codes
from judo_edge.export.quantize.nibbles import nibbles_from_codes

Bytes = npt.NDArray[np.uint8]


def blocks_from_codes(codes: Codes, grid: Grid) -> Bytes:
    """Return integers (n, in) as bytes (n, blocks, block * bits / 8); padding stands for zero."""
    count, size = codes.shape
    padded = np.full((count, grid.num_scales(size) * grid.block), grid.limit + 1, np.uint8)
    padded[:, :size] = codes.view(np.uint8) + np.uint8(grid.limit + 1)
    blocks = padded.reshape(count, -1, grid.block)
    return blocks if grid.bits == 8 else nibbles_from_codes(blocks)


def codes_from_blocks(weights: Bytes, grid: Grid, in_features: int) -> Codes:
    """Return the integers (n, in) of bytes (n, blocks, block * bits / 8)."""
    values = weights if grid.bits == 8 else np.stack([weights & 15, weights >> 4], axis=-1)
    shifted = values.reshape(len(weights), -1).astype(np.int16) - (grid.limit + 1)
    return shifted[:, :in_features].astype(np.int8)


def blocks_from_rows(rows: Floats, block: int) -> tuple[Bytes, Floats]:
    """Quantize rows (n, in) to 8-bit weights (n, blocks, block) uint8 and scales (n, blocks) float32."""
    grid = Grid(block=block)
    codes, scales = quantized(rows, grid)
    return blocks_from_codes(codes, grid), scales


def rows_from_blocks(weights: Bytes, scales: Floats, in_features: int) -> Floats:
    """Return the float32 rows (n, in) that 8-bit blocks stand for: the reference for tests and parity."""
    grid = Grid(block=weights.shape[2])
    return rows_from_codes(codes_from_blocks(weights, grid, in_features), scales, grid)
