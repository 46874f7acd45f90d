"""Wording of a reply's reason: what JUDO-nano is trained to say, and what calibration replies say. Knows no tensors."""

from __future__ import annotations

import numpy as np

from judo_edge.core import CellMask

PLACES = tuple(
    f"{row} {col}".replace("middle centre", "centre")
    for row in ("upper", "middle", "lower")
    for col in ("left", "centre", "right")
)
"""Thirds of a picture, row by row."""


def place_of(mask: CellMask) -> str:
    """Name the third of the picture in which the centre of the cells lies."""
    row, col = np.argwhere(mask.to_array()).mean(axis=0)
    return PLACES[int(row * 3 // mask.rows) * 3 + int(col * 3 // mask.cols)]


def reason(mask: CellMask, defect: str | None) -> str:
    """Write the reason of a reply."""
    if defect is None:
        return "The query matches the normal reference."
    return f"The query shows a {defect} at the {place_of(mask)}."
