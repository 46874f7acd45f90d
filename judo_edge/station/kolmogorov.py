"""Whether two samples of equal size come from one distribution: the exact two-sample Kolmogorov-Smirnov test."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


class Comparison(NamedTuple):
    """How far two samples lie apart."""

    distance: float
    """Greatest difference of the two empirical distribution functions, 0 to 1."""
    probability: float
    """Of such a distance or a greater one when both come from one continuous distribution."""


def compare(first: Numbers, second: Numbers) -> Comparison:
    """Compare two samples of equal size; ValueError when the sizes differ or are zero.

    With ties the probability is too large rather than too small, so an alarm by it is rarer than promised.
    """
    size = len(first)
    if size != len(second) or size == 0:
        raise ValueError(f"samples of {size} and {len(second)} values")
    steps = steps_apart(first, second)
    return Comparison(steps / size, probability_from_steps(size, steps))


def steps_apart(first: Numbers, second: Numbers) -> int:
    """Return the greatest difference of how many values of each sample are at most x, over all x."""
    values = np.concatenate([first, second])
    at_most = [np.searchsorted(np.sort(sample), values, side="right") for sample in (first, second)]
    return int(np.abs(at_most[0] - at_most[1]).max())


def probability_from_steps(size: int, steps: int) -> float:
    """Return P(steps_apart >= steps) for two samples of `size` from one continuous distribution.

    2 * sum over i = 1, 2, ... of (-1)^(i+1) * C(2n, n - i h) / C(2n, n), with n = size and h = steps: B. V. Gnedenko,
    V. S. Korolyuk, "On the maximum discrepancy between two empirical distributions", Doklady AN SSSR 80 (1951). Exact:
    the walk of the 2n sorted values has to leave a strip, and reflections count the walks that do.
    """
    if steps <= 0:
        return 1.0
    terms = (_share(size, number * steps) * (1 if number % 2 else -1) for number in range(1, size // steps + 1))
    return min(1.0, 2.0 * math.fsum(terms))


def _share(size: int, shift: int) -> float:
    """Return C(2n, n - shift) / C(2n, n)."""
    log = 2 * math.lgamma(size + 1) - math.lgamma(size - shift + 1) - math.lgamma(size + shift + 1)
    return math.exp(log)
