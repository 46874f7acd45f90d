"""What a threshold taken from good parts promises: split-conformal prediction and the Beta law of its rate.

Of n scores of good parts the threshold is the r-th largest, and a part is rejected when its score lies above. Where
good parts are exchangeable, the rate of rejected good parts over such draws follows Beta(r, n + 1 - r) (Vovk 2012,
"Conditional validity of inductive conformal predictors"); ties can only lower it, because a score that equals the
threshold passes. Knows no photos and no signs.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from judo_edge.config import Frozen
from judo_edge.errors import InputError

BOUND_LEVEL = 0.95
"""Confidence of the bound that is stated beside the budget."""

Share = Annotated[float, Field(gt=0, lt=1)]


class Guarantee(Frozen):
    """What a threshold promises of good parts like those that it was taken from."""

    budget: Share
    """Share of good parts that may be rejected."""
    asked: Share
    """Confidence that was asked for."""
    num_photos: Annotated[int, Field(ge=1)]
    """Good photos that the threshold was taken from."""
    rank: Annotated[int, Field(ge=1)]
    """The threshold is the rank-th largest of their scores."""
    confidence: Annotated[float, Field(ge=0, le=1)]
    """P(rate <= budget), by the Beta law."""
    expected_rate: Share
    """Mean of the rate: rank / (num_photos + 1)."""
    rate_bound: Share
    """The rate stays below it with confidence 0.95."""
    num_needed: Annotated[int, Field(ge=1)]
    """Fewest photos that can promise budget and confidence as asked."""

    @property
    def is_met(self) -> bool:
        """Tell whether budget and confidence are promised as asked."""
        return self.confidence >= self.asked

    @property
    def text(self) -> str:
        """Return the promise in words; below the photos that it takes, what can be promised instead."""
        budget, asked = percent_text(self.budget), percent_text(self.asked)
        short = (
            f"{self.num_photos} good photos set the threshold; {budget} at confidence {asked} takes {self.num_needed}"
        )
        promise = (
            f"at most {budget} of good parts like these are rejected, with confidence {percent_text(self.confidence)}; "
            f"at most {percent_text(self.rate_bound)} with confidence {percent_text(BOUND_LEVEL)}; "
            f"{percent_text(self.expected_rate)} on average over such choices of photos"
        )
        return promise if self.is_met else f"{short}; what {self.num_photos} promise: {promise}"


def guarantee_from_count(num_photos: int, budget: float, confidence: float) -> Guarantee:
    """Return the promise of the lowest threshold that keeps budget and confidence.

    Where even the largest score cannot promise that, the threshold is the largest score and `is_met` is False.
    Raises InputError when there is no photo, or when a share lies outside 0..1.
    """
    if num_photos < 1:
        raise InputError("no good photo for the threshold", "at least one", "give more photos of good parts")
    for name, value in (("budget", budget), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"a {name} of {value}", "a share above 0 and below 1", f"correct --{name}")
    rank = _rank(num_photos, budget, confidence)
    return Guarantee(
        budget=budget,
        asked=confidence,
        num_photos=num_photos,
        rank=rank,
        confidence=chance_within(num_photos, rank, budget),
        expected_rate=rank / (num_photos + 1),
        rate_bound=rate_bound(num_photos, rank, BOUND_LEVEL),
        num_needed=photos_needed(budget, confidence),
    )


def threshold_from_scores(scores: npt.ArrayLike, rank: int) -> float:
    """Return the rank-th largest of the scores (n,); at most rank - 1 of them lie above it."""
    return float(np.sort(np.asarray(scores, dtype=np.float64))[-rank])


def photos_needed(budget: float, confidence: float) -> int:
    """Return the fewest good photos whose largest score promises the budget: ln(1 - confidence) / ln(1 - budget)."""
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-budget) - 1e-9))


def chance_within(num_photos: int, rank: int, rate: float) -> float:
    """Return P(Beta(rank, n + 1 - rank) <= rate): the confidence that no more than `rate` of good parts are rejected.

    For whole numbers it is a binomial tail: P(Bin(n, rate) >= rank).
    """
    logs = (_log_binomial(num_photos, count, rate) for count in range(rank))
    return min(1.0, max(0.0, 1.0 - math.fsum(math.exp(log) for log in logs)))


def chance_of_count(num_photos: int, rank: int, num_fresh: int, count: int) -> float:
    """Return P(at most `count` of `num_fresh` good parts are rejected): the Beta law seen through a finite sample.

    Beta-binomial: of all orders of the n + m scores, those with j fresh ones above the threshold.
    """
    orders = _log_ways(num_photos + num_fresh, num_fresh)
    logs = (
        _log_ways(j + rank - 1, j) + _log_ways(num_photos - rank + num_fresh - j, num_fresh - j) - orders
        for j in range(min(count, num_fresh) + 1)
    )
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def rate_bound(num_photos: int, rank: int, level: float) -> float:
    """Return the rate that is not exceeded with confidence `level`, by bisection to 1e-12."""
    low, high = 0.0, 1.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (low, middle) if chance_within(num_photos, rank, middle) >= level else (middle, high)
    return high


def percent_text(share: float) -> str:
    """Return a share as percent with three digits that count, such as 0.431 %."""
    return f"{100 * share:.3g} %"


def _rank(num_photos: int, budget: float, confidence: float) -> int:
    """Return the largest rank that keeps the promise, or 1; the chance falls as the rank grows."""
    rank, below = 1, math.exp(_log_binomial(num_photos, 0, budget))
    while rank < num_photos:
        below += math.exp(_log_binomial(num_photos, rank, budget))
        if 1.0 - below < confidence:
            break
        rank += 1
    return rank


def _log_binomial(trials: int, count: int, p: float) -> float:
    return _log_ways(trials, count) + count * math.log(p) + (trials - count) * math.log1p(-p)


def _log_ways(trials: int, count: int) -> float:
    return math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
