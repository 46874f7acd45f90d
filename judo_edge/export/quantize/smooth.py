"""Moving range from inputs to weights: y = (x / s) (s W) for any positive s of one value for each input.

The graph multiplies by 1 / s in its own type; the weights take the inverse of that stored number, so that the product
is the same. SmoothQuant (arXiv 2211.10438) and AWQ (arXiv 2306.00978) choose s; neither is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats
from judo_edge.errors import ConfigError


@dataclass(frozen=True)
class Smoothing:
    """Both sides of one vector."""

    multiplier: npt.NDArray[Any]
    """(in,) in the graph's type: inputs are multiplied by it."""
    factor: Floats
    """(in,) float32: columns of the weight are multiplied by it."""


def smoothing_from_vector(vector: Floats, dtype: Literal["float32", "float16"], weight: str) -> Smoothing | None:
    """Return both sides of a vector s (in,), None when it is all ones and there is nothing to do.

    Raises ConfigError that names the weight when a value is not positive or its inverse no normal number of the type.
    """
    if (vector == 1).all():
        return None
    with np.errstate(divide="ignore", over="ignore"):
        multiplier = (1 / vector).astype(dtype)
    limits = np.finfo(dtype)
    if not ((multiplier >= limits.tiny) & (multiplier <= limits.max)).all():
        found = (
            f"the calibration scales the inputs of {weight} by {float(vector.min()):.3g} to {float(vector.max()):.3g}"
        )
        raise ConfigError(found, f"positive values with an inverse in {dtype}", "calibrate again")
    factor: Floats = np.float32(1) / multiplier.astype(np.float32)
    return Smoothing(multiplier, factor)
