"""The promise of a threshold, against simulation and against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from judo_edge.calibration.conformal import (
    chance_of_count,
    chance_within,
    guarantee_from_count,
    photos_needed,
    rate_bound,
    threshold_from_scores,
)
from judo_edge.errors import InputError

NUM_DRAWS = 20_000


def simulated_rates(num_photos: int, rank: int) -> np.ndarray:
    """Realised reject rates of thresholds from many sets of uniform scores: the rate is 1 - threshold."""
    scores = np.random.default_rng(0).random((NUM_DRAWS, num_photos))
    return np.array([1 - threshold_from_scores(row, rank) for row in scores])


@pytest.mark.parametrize(("num_photos", "rank", "rate"), [(60, 1, 0.01), (200, 1, 0.01), (150, 5, 0.04), (40, 7, 0.1)])
def test_the_beta_law_holds_in_simulation(num_photos: int, rank: int, rate: float) -> None:
    rates = simulated_rates(num_photos, rank)
    assert (rates <= rate).mean() == pytest.approx(chance_within(num_photos, rank, rate), abs=0.012)
    assert (rates <= rate_bound(num_photos, rank, 0.95)).mean() == pytest.approx(0.95, abs=0.006)
    assert rates.mean() == pytest.approx(rank / (num_photos + 1), rel=0.03)


@pytest.mark.parametrize(("budget", "confidence", "count"), [(0.01, 0.9, 230), (0.05, 0.95, 59), (0.5, 0.5, 1)])
def test_photos_needed_are_the_fewest(budget: float, confidence: float, count: int) -> None:
    assert photos_needed(budget, confidence) == count
    assert guarantee_from_count(count, budget, confidence).is_met
    assert count == 1 or not guarantee_from_count(count - 1, budget, confidence).is_met


def test_the_maximum_has_its_closed_form() -> None:
    assert chance_within(200, 1, 0.01) == pytest.approx(1 - 0.99**200)
    assert rate_bound(200, 1, 0.95) == pytest.approx(1 - 0.05 ** (1 / 200))


@pytest.mark.parametrize(("rank", "count"), [(1, 0), (1, 4), (3, 6)])
def test_a_finite_sample_follows_the_beta_binomial_law(rank: int, count: int) -> None:
    scores = np.random.default_rng(1).random((NUM_DRAWS, 150))
    thresholds = np.sort(scores[:, :50], axis=1)[:, -rank]
    seen = (scores[:, 50:] > thresholds[:, None]).sum(axis=1)
    assert (seen <= count).mean() == pytest.approx(chance_of_count(50, rank, 100, count), abs=0.012)
    assert chance_of_count(50, rank, 100, 100) == pytest.approx(1)


@pytest.mark.parametrize("num_photos", [230, 388, 1000, 5000])
def test_the_rank_is_the_largest_that_keeps_the_promise(num_photos: int) -> None:
    found = guarantee_from_count(num_photos, 0.01, 0.9)
    assert found.confidence >= 0.9 > chance_within(num_photos, found.rank + 1, 0.01)
    assert found.expected_rate < 0.01 < found.rate_bound


def test_more_photos_bring_the_threshold_down_to_the_budget() -> None:
    rates = [guarantee_from_count(count, 0.01, 0.9).rate_bound for count in (100, 230, 1000, 20_000)]
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.0105


def test_too_few_photos_say_what_they_can_promise() -> None:
    found = guarantee_from_count(100, 0.01, 0.9)
    assert not found.is_met and found.rank == 1
    assert "1 % at confidence 90 % takes 230" in found.text and "confidence 63.4 %" in found.text
    assert "takes" not in guarantee_from_count(230, 0.01, 0.9).text


def test_ties_pass() -> None:
    scores = [1.0, 2.0, 2.0, 2.0, 2.0]
    threshold = threshold_from_scores(scores, 2)
    assert threshold == 2.0 and not any(score > threshold for score in scores)


def test_coverage_with_ties_is_never_below_what_is_promised() -> None:
    rng, law = np.random.default_rng(3), np.cumsum([0.9, 0.06, 0.03, 0.01])
    promise = chance_within(80, 1, 0.02)
    tops = np.array([np.searchsorted(law, rng.random(80)).max() for _ in range(4000)])
    assert (1 - law[tops] <= 0.02 + 1e-12).mean() >= promise - 0.02


@pytest.mark.parametrize(("budget", "confidence"), [(0, 0.9), (1, 0.9), (0.01, 1.0), (-0.1, 0.9), (0.01, 90)])
def test_a_share_that_is_none_is_refused(budget: float, confidence: float) -> None:
    with pytest.raises(InputError, match="a share above 0 and below 1"):
        guarantee_from_count(100, budget, confidence)


def test_no_photo_promises_nothing() -> None:
    with pytest.raises(InputError, match="no good photo"):
        guarantee_from_count(0, 0.01, 0.9)
