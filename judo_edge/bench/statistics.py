"""Figures of series of times, and running ones that take the same memory however long a run is. Knows no units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from judo_edge.config import Frozen

RESOLUTION = 0.005
"""Largest relative error of a running quantile."""
_SMALLEST = 1e-6


class Summary(Frozen):
    """A series in figures, all in the unit of its values but for the count."""

    count: Annotated[int, Field(gt=0)]
    mean: float
    p50: float
    p90: float
    p99: float
    max: float
    jitter: float
    """p99 - p50."""
    jitter_successive: float
    """Standard deviation of the differences between one value and the next; 0 for fewer than three values."""


def summary_from_values(values: Sequence[float], scale: float = 1.0) -> Summary | None:
    """Return the figures of a series multiplied by `scale`; None for an empty one.

    Quantiles interpolate linearly between ranks, so p99 of fewer than 100 values leans on the largest.
    """
    if not values:
        return None
    series = np.asarray(values, dtype=np.float64) * scale
    p50, p90, p99 = (float(value) for value in np.quantile(series, (0.5, 0.9, 0.99)))
    steps = np.diff(series)
    return Summary(
        count=series.size,
        mean=float(series.mean()),
        p50=p50,
        p90=p90,
        p99=p99,
        max=float(series.max()),
        jitter=p99 - p50,
        jitter_successive=float(steps.std()) if steps.size > 1 else 0.0,
    )


def ratio_of_means(above: Sequence[float], below: Sequence[float]) -> float | None:
    """Return mean(above) / mean(below) of paired series; None when nothing was measured."""
    return float(np.sum(above) / np.sum(below)) if below and above else None


def median_of_ratios(above: Sequence[float], below: Sequence[float]) -> float | None:
    """Return the median of above / below, pair by pair: what a disturbance of single frames does not move."""
    return float(np.median(np.divide(above, below))) if below and above else None


class Histogram:
    """Running quantiles of positive values over buckets that grow by a constant factor, as HDR histograms do."""

    def __init__(self, largest: float = 1e5) -> None:
        """Make the buckets from a millionth to `largest`; what lies outside falls into the first or last one."""
        self._step = 2 * math.log1p(RESOLUTION)
        self._counts = np.zeros(2 + math.ceil(math.log(largest / _SMALLEST) / self._step), dtype=np.int64)
        self.max = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        index = math.floor(math.log(max(value, _SMALLEST) / _SMALLEST) / self._step)
        self._counts[min(index, self._counts.size - 1)] += 1
        self.max = max(self.max, value)

    @property
    def count(self) -> int:
        """Return how many values were counted."""
        return int(self._counts.sum())

    def quantile(self, share: float) -> float:
        """Return the value below which a share of all lies (nearest rank); 0 when nothing was counted."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(share * self.count))
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(self.max, _SMALLEST * math.exp((index + 0.5) * self._step))


class RunningLine:
    """A straight line through points by least squares, from running sums (Welford's updates)."""

    def __init__(self) -> None:
        """Know no point yet."""
        self.count = 0
        self._mean_x = self._mean_y = self._var_x = self._cov = 0.0

    def add(self, x: float, y: float) -> None:
        """Take a point in."""
        self.count += 1
        before = x - self._mean_x
        self._mean_x += before / self.count
        self._mean_y += (y - self._mean_y) / self.count
        self._var_x += before * (x - self._mean_x)
        self._cov += before * (y - self._mean_y)

    @property
    def slope(self) -> float | None:
        """Return the change of y per unit of x; None for fewer than two places."""
        return self._cov / self._var_x if self._var_x > 0 else None
