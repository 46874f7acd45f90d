"""Rounding that makes up for its own errors: what one weight loses, the later weights of the row take over.

GPTQ (Frantar et al., arXiv 2210.17323) with the inputs in their natural order. Needs the second moments of the inputs;
rows are independent of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judo_edge.core import Floats
from judo_edge.errors import CheckpointError
from judo_edge.export.quantize.grid import Codes, Grid, scales_from_rows

MAX_FEATURES = 8192
"""Inputs above which second moments are not used: three float64 matrices of that side take 1.6 GB."""
_DAMPING = 0.01
"""Share of the mean second moment that is added to each, as in the paper."""
_RUN = 128
"""Inputs that are worked on together; their errors reach the rest of the row in one product. Also the largest block."""


@dataclass(frozen=True)
class Compensation:
    """How the error of one weight spreads over the later ones: (in, in) float32, upper triangular."""

    factor: Floats


def compensation_from_gram(gram: Floats, factor: Floats | None = None) -> Compensation:
    """Return the Cholesky factor of the inverse of damped second moments (in, in).

    `factor` (in,) is what the weights were multiplied by, so that the inputs are divided by it. Raises CheckpointError
    when the moments are not finite or not positive definite.
    """
    moments = gram.astype(np.float64)
    if factor is not None:
        moments /= factor
        moments /= factor[:, None]
    diagonal = np.einsum("ii->i", moments)
    diagonal[diagonal == 0] = 1  # an input that was always zero: nothing to make up for
    diagonal += _DAMPING * diagonal.mean()
    try:
        lower = np.linalg.cholesky(np.linalg.inv(moments))  # reads the lower half alone
    except np.linalg.LinAlgError as error:
        raise CheckpointError("second moments of a calibration are not positive", action="calibrate again") from error
    return Compensation(np.ascontiguousarray(lower.T, np.float32))


def compensated_codes(rows: Floats, compensation: Compensation, grid: Grid) -> tuple[Codes, Floats]:
    """Round rows (n, in) to integers (n, in) int8 with scales (n, blocks); blocks divide 128 or are whole rows."""
    rest, spread = rows.copy(), compensation.factor
    codes = np.empty(rows.shape, np.int8)
    scales = scales_from_rows(rows, grid)
    for start in range(0, rows.shape[1], _RUN):
        stop = min(start + _RUN, rows.shape[1])
        errors = _round_run(rest, codes, scales, spread, grid, start, stop)
        rest[:, stop:] -= errors @ spread[start:stop, stop:]
    return codes, scales


def _round_run(rest: Floats, codes: Codes, scales: Floats, spread: Floats, grid: Grid, start: int, stop: int) -> Floats:
    """Round inputs start..stop one after the other; return their errors (n, stop - start) for those behind."""
    errors = np.empty((len(rest), stop - start), np.float32)
    for i in range(start, stop):
        block = i // grid.width(rest.shape[1])
        if grid.block and i % grid.block == 0:
            scales[:, block] = scales_from_rows(rest[:, i : i + grid.block], grid)[:, 0]
        rounded = np.clip(np.rint(rest[:, i] / scales[:, block]), -grid.limit, grid.limit)
        error = (rest[:, i] - rounded * scales[:, block]) / spread[i, i]
        codes[:, i] = rounded
        rest[:, i:stop] -= error[:, None] * spread[i, i:stop]
        errors[:, i - start] = error
    return errors
