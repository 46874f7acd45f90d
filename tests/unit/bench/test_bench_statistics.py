"""Figures of known series, and running ones against those of the whole series."""

from __future__ import annotations

import numpy as np
import pytest

from judo_edge.bench.statistics import (
    RESOLUTION,
    Histogram,
    RunningLine,
    median_of_ratios,
    ratio_of_means,
    summary_from_values,
)


def test_summary_of_a_known_series() -> None:
    summary = summary_from_values([value / 1000 for value in range(101)], 1000)
    assert summary is not None and summary.count == 101
    figures = (summary.mean, summary.p50, summary.p90, summary.p99, summary.max, summary.jitter)
    assert figures == pytest.approx((50, 50, 90, 99, 100, 49))
    assert summary.jitter_successive == pytest.approx(0)


def test_jitter_from_one_value_to_the_next_sees_what_quantiles_do_not() -> None:
    calm, nervous = [1.0] * 50 + [3.0] * 50, [1.0, 3.0] * 50
    one, other = summary_from_values(calm), summary_from_values(nervous)
    assert one is not None and other is not None and one.jitter == other.jitter
    assert one.jitter_successive == pytest.approx(np.std(np.diff(calm)))
    assert other.jitter_successive == pytest.approx(np.std(np.diff(nervous))) and other.jitter_successive > 1.9


def test_what_was_not_measured_is_none() -> None:
    assert summary_from_values([]) is None
    assert ratio_of_means([], []) is None and median_of_ratios([], []) is None


def test_ratios() -> None:
    assert ratio_of_means([1, 2, 9], [1, 1, 1]) == 4
    assert median_of_ratios([1, 2, 9], [1, 1, 1]) == 2


def test_running_quantiles_are_those_of_the_series() -> None:
    values = np.random.default_rng(0).lognormal(3, 1, 20_000)
    histogram = Histogram()
    for value in values:
        histogram.add(float(value))
    assert histogram.count == values.size and histogram.max == values.max()
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        wanted = np.quantile(values, share, method="inverted_cdf")
        assert histogram.quantile(share) == pytest.approx(wanted, rel=1.01 * RESOLUTION)


def test_running_quantiles_outside_of_the_buckets() -> None:
    histogram = Histogram(largest=10)
    assert histogram.quantile(0.5) == 0
    histogram.add(0.0)
    histogram.add(1e9)
    assert histogram.count == 2 and histogram.quantile(0.5) < 2e-6 and histogram.max == 1e9


def test_slope_is_that_of_least_squares() -> None:
    rng, line = np.random.default_rng(1), RunningLine()
    x = np.arange(5000) / 1000
    y = 1e4 + 0.25 * x + rng.normal(0, 1, x.size)
    for pair in zip(x, y, strict=True):
        line.add(*map(float, pair))
    assert line.slope == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-6)


def test_slope_needs_two_places() -> None:
    line = RunningLine()
    assert line.slope is None
    line.add(1, 5)
    line.add(1, 6)
    assert line.slope is None
