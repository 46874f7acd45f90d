"""The layout of DequantizeLinear before a MatMul: integers (in, out), scales (out,) or (blocks, out).

Knows arrays only; `nibbles` packs two integers of 4 bits into a byte.
"""

from __future__ import annotations

import numpy as np

from judo_edge.core import Floats
from judo_edge.export.quantize.grid import Codes, Grid, rows_from_codes


def columns_from_codes(codes: Codes) -> Codes:
    """Return integers (n, in) as (in, n), contiguous."""
    return np.ascontiguousarray(codes.T)


def rows_from_columns(columns: Codes, scales: Floats, grid: Grid) -> Floats:
    """Return the rows (n, in) that integers (in, n) with scales (n,) or (blocks, n) stand for."""
    by_output = scales.astype(np.float32).reshape(-1, columns.shape[1]).T
    return rows_from_codes(np.ascontiguousarray(columns.T), np.ascontiguousarray(by_output), grid)
