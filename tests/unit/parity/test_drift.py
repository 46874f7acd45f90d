"""Drift of one item's numbers, against plain loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judo_edge.parity.drift import NUM_CANDIDATES, best_from_logits, logit_drift, margin_drift, row_drift

RNG = np.random.default_rng(5)
ROWS = RNG.standard_normal((12, 8)).astype(np.float32)


def test_equal_rows_do_not_drift() -> None:
    drift = row_drift(ROWS, ROWS)
    assert drift.cosine_min == pytest.approx(1) and drift.cosine_mean == pytest.approx(1) and drift.error_max == 0


def test_rows_in_another_order_drift_although_they_are_the_same_rows() -> None:
    swapped = ROWS.copy()
    swapped[[3, 7]] = ROWS[[7, 3]]
    drift = row_drift(swapped, ROWS)
    cosine = float(ROWS[3] @ ROWS[7] / np.linalg.norm(ROWS[3]) / np.linalg.norm(ROWS[7]))
    assert drift.cosine_min == pytest.approx(cosine, abs=1e-6)
    assert drift.cosine_mean == pytest.approx((10 + 2 * cosine) / 12, abs=1e-6)


def test_a_longer_row_has_the_same_direction_but_an_error() -> None:
    drift = row_drift(ROWS * np.float32(1.5), ROWS)
    assert drift.cosine_min == pytest.approx(1) and drift.error_max == pytest.approx(0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_no_numbers_are_no_figure(value: float) -> None:
    broken = ROWS.copy()
    broken[2, 1] = value
    drift = row_drift(broken, ROWS)
    assert not math.isfinite(drift.cosine_min) and not math.isfinite(drift.error_max)


def test_logits_are_compared_place_by_place() -> None:
    reference = RNG.standard_normal((5, 20)).astype(np.float32) * 4
    ours = reference + RNG.standard_normal((5, 20)).astype(np.float32)
    drift = logit_drift(ours, best_from_logits(reference))
    np.testing.assert_allclose(drift.differences, np.abs(ours - reference).mean(axis=1), rtol=1e-5)
    assert drift.largest == pytest.approx(float(np.abs(ours - reference).max()), rel=1e-5)
    assert drift.agrees.tolist() == (ours.argmax(axis=1) == reference.argmax(axis=1)).tolist()


def test_near_ties_are_those_of_the_reference() -> None:
    reference = np.array([[3.0, 2.8, 0.0], [3.0, 1.0, 0.0]], dtype=np.float32)
    drift = logit_drift(reference[:, ::-1].copy(), best_from_logits(reference))
    assert drift.is_near_tie.tolist() == [True, False] and drift.agrees.tolist() == [False, False]


def test_of_a_large_vocabulary_the_best_are_kept() -> None:
    reference = RNG.standard_normal((2, NUM_CANDIDATES + 500)).astype(np.float32)
    best = best_from_logits(reference)
    assert best.tokens.shape == (2, NUM_CANDIDATES)
    np.testing.assert_array_equal(best.logits, -np.sort(-reference, axis=1)[:, :NUM_CANDIDATES])
    beyond = reference.copy()
    worst = np.setdiff1d(np.arange(reference.shape[1]), best.tokens[0])[0]
    beyond[0, worst] = 50.0  # a token that the reference never considered wins
    assert logit_drift(beyond, best).agrees.tolist() == [False, True]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_infinitely_far_and_agrees_with_nothing(value: float) -> None:
    reference = RNG.standard_normal((3, 6)).astype(np.float32)
    ours = reference.copy()
    ours[1, reference[1].argmin()] = value
    drift = logit_drift(ours, best_from_logits(reference))
    assert drift.agrees.tolist() == [True, False, True]
    assert drift.largest == math.inf and np.isinf(drift.differences).tolist() == [False, True, False]


def test_a_margin_that_went_missing_is_infinitely_far() -> None:
    drift = margin_drift({"mask": 1.5}, {"mask": -1.0, "answer": 2.0})
    assert drift == {"mask": 2.5, "answer": math.inf}
