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
        self._weight = self._rows = self._seconds = self._squares = self._products = 0.0

    def observe(self, num_rows: int, seconds: float) -> None:
        """Take in a pass."""
        for name, value in (
            ("_weight", 1.0),
            ("_rows", num_rows),
            ("_seconds", seconds),
            ("_squares", num_rows**2),
            ("_products", num_rows * seconds),
        ):
            setattr(self, name, getattr(self, name) * FORGET + value)

    @property
    def row_share(self) -> float:
        """Return a row's cost over that of a pass of one row: the chance from which on a guess pays."""
        spread = self._weight * self._squares - self._rows**2
        if spread <= 1e-9 * self._squares * self._weight or self._weight < 2:
            return 1 / (1 + ROWS_PER_PASS)
        row = (self._weight * self._products - self._rows * self._seconds) / spread
        whole = (self._seconds - row * self._rows) / self._weight + row
        share = row / whole if whole > 0 else math.inf
        return min(MAX_SHARE, max(MIN_SHARE, share)) if row > 0 else MIN_SHARE
