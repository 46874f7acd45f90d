"""What a pass of the decoder costs, learnt from the passes themselves: a fixed part and a part for each row."""

from __future__ import annotations

import math

FORGET = 0.98
"""Weight that a pass keeps when the next one is seen: devices slow down when they get warm."""
ROWS_PER_PASS = 10.0
"""A pass's fixed part in rows, before anything was measured."""
MIN_SHARE, MAX_SHARE = 0.005, 0.5
"""Bounds of a row's share of a pass: a measurement disturbed by other programs must not end all drafts."""


class PassCosts:
    """A straight line through (rows, seconds) of the recent passes, by weighted least squares."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._sums: tuple[float, ...] = (0.0,) * 5
        """Weights, rows, seconds, squares of rows, products of rows and seconds."""

    def observe(self, num_rows: int, seconds: float) -> None:
        """Take in a pass."""
        new = (1.0, num_rows, seconds, num_rows**2, num_rows * seconds)
        self._sums = tuple(known * FORGET + value for known, value in zip(self._sums, new, strict=True))

    @property
    def row_share(self) -> float:
        """Return a row's cost over that of a pass of one row: the chance from which on a guess pays."""
        weight, rows, seconds, squares, products = self._sums
        spread = weight * squares - rows**2
        if spread <= 1e-9 * squares * weight or weight < 2:
            return 1 / (1 + ROWS_PER_PASS)
        row = (weight * products - rows * seconds) / spread
        whole = (seconds - row * rows) / weight + row
        share = row / whole if whole > 0 else math.inf
        return min(MAX_SHARE, max(MIN_SHARE, share)) if row > 0 else MIN_SHARE
