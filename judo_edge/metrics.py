"""Figures of a labelled set with their bootstrap intervals, from plain arrays.

Knows no files, photos or models. A figure that the items cannot define (no masks, no good part) is None, never 0.
Resampling is over items, not cells: the cells of one photo are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
NUM_RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its percentile bootstrap interval; all three None when it is undefined."""

    value: float | None
    low: float | None
    high: float | None


Statistic = Callable[[Array], float]
"""A figure from item weights (N,): how often each item counts. NaN when undefined."""


def estimate(
    statistic: Statistic, strata: npt.ArrayLike, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Estimate:
    """Return a figure with its 95 % interval; items are drawn with replacement within each stratum (N,).

    The percentile bootstrap; its interval is the point itself where all items agree. Resamples in which the figure is
    undefined are left out.
    """
    groups = np.asarray(strata)
    value = statistic(np.ones(groups.size))
    if not math.isfinite(value):
        return Estimate(None, None, None)
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(_weights(groups, rng)) for _ in range(num_resamples)])
    low, high = np.quantile(drawn[np.isfinite(drawn)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))


def share(hits: npt.ArrayLike) -> Statistic:
    """Return the weighted share of true items (N,)."""
    flags = np.asarray(hits, dtype=np.float64)

    def statistic(weights: Array) -> float:
        return _ratio(float(weights @ flags), float(weights.sum()))

    return statistic


def auroc(scores: npt.ArrayLike, positive: npt.ArrayLike, item_of: npt.ArrayLike | None = None) -> Statistic:
    """Return the area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    `scores` and `positive` are (M,); `item_of` (M,) tells which item each belongs to, by default its own. Infinite
    scores are allowed and rank last or first.
    """
    values, is_positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=np.bool_)
    owner = np.arange(values.size) if item_of is None else np.asarray(item_of, dtype=np.int64)
    ranks = np.unique(values, return_inverse=True)[1].reshape(-1)
    num_ranks = int(ranks.max()) + 1 if ranks.size else 0

    def statistic(weights: Array) -> float:
        each = weights[owner]
        above = np.bincount(ranks, each * is_positive, num_ranks)
        below = np.bincount(ranks, each * ~is_positive, num_ranks)
        beaten = np.cumsum(below) - 0.5 * below
        return _ratio(float(above @ beaten), float(above.sum() * below.sum()))

    return statistic


def pooled_f1(marked: npt.ArrayLike, truth: npt.ArrayLike) -> Statistic:
    """Return the micro F1 over all cells of all items; `marked` and `truth` are (N, cells) booleans."""
    said, real = np.asarray(marked, dtype=np.bool_), np.asarray(truth, dtype=np.bool_)
    hits = (said & real).sum(axis=1).astype(np.float64)
    total = said.sum(axis=1).astype(np.float64) + real.sum(axis=1)

    def statistic(weights: Array) -> float:
        return _ratio(float(2 * (weights @ hits)), float(weights @ total))

    return statistic


def _weights(groups: npt.NDArray[np.generic], rng: np.random.Generator) -> Array:
    weights = np.zeros(groups.size)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        weights[members] = np.bincount(rng.integers(0, members.size, members.size), minlength=members.size)
    return weights


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
