"""Figures against their definitions, and intervals against what is known of them."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judo_edge.metrics import Estimate, auroc, estimate, pooled_f1, share

SCORES = st.lists(
    st.tuples(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf]), st.booleans()), min_size=2, max_size=14
)


def auroc_by_pairs(scores: list[float], positive: list[bool]) -> float:
    """Count the pairs one by one."""
    above = [s for s, p in zip(scores, positive, strict=True) if p]
    below = [s for s, p in zip(scores, positive, strict=True) if not p]
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(above, below)]
    return sum(wins) / len(wins) if wins else math.nan


@given(SCORES)
def test_auroc_equals_the_pairs_counted(rows: list[tuple[float, bool]]) -> None:
    scores, positive = [score for score, _ in rows], [flag for _, flag in rows]
    value = auroc(scores, positive)(np.ones(len(rows)))
    assert value == pytest.approx(auroc_by_pairs(scores, positive), nan_ok=True)


@given(SCORES, st.integers(0, 9))
def test_weights_count_like_repeated_items(rows: list[tuple[float, bool]], seed: int) -> None:
    weights = np.random.default_rng(seed).integers(0, 3, len(rows))
    repeated = [row for row, times in zip(rows, weights, strict=True) for _ in range(times)]
    value = auroc([s for s, _ in rows], [p for _, p in rows])(weights.astype(float))
    assert value == pytest.approx(auroc_by_pairs([s for s, _ in repeated], [p for _, p in repeated]), nan_ok=True)


def test_cells_follow_their_item() -> None:
    scores, truth, owner = [3.0, 1.0, 2.0, 0.0], [True, False, False, True], [0, 0, 1, 1]
    statistic = auroc(scores, truth, owner)
    assert statistic(np.array([1.0, 0.0])) == 1.0 and statistic(np.array([0.0, 2.0])) == 0.0


def test_pooled_f1_is_micro_over_items() -> None:
    marked = np.array([[1, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    truth = np.array([[1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    assert pooled_f1(marked, truth)(np.ones(2)) == pytest.approx(2 * 1 / (3 + 1))
    assert pooled_f1(marked, truth)(np.array([1.0, 0.0])) == pytest.approx(2 / 3)


def test_undefined_figures_are_none() -> None:
    nothing = Estimate(None, None, None)
    empty = np.zeros((2, 4), dtype=bool)
    assert estimate(pooled_f1(empty, empty), np.zeros(2)) == nothing
    assert estimate(auroc([1.0, 2.0], [True, True]), np.zeros(2)) == nothing
    assert estimate(share([]), np.zeros(0)) == nothing


def test_interval_holds_the_value_repeats_and_is_about_right() -> None:
    hits = np.arange(100) < 80
    first = estimate(share(hits), np.zeros(100), seed=3)
    assert first == estimate(share(hits), np.zeros(100), seed=3) != estimate(share(hits), np.zeros(100), seed=4)
    assert first.value == 0.8 and first.low is not None and first.high is not None
    spread = 1.96 * math.sqrt(0.8 * 0.2 / 100)
    assert first.low == pytest.approx(0.8 - spread, abs=0.02) and first.high == pytest.approx(0.8 + spread, abs=0.02)


def test_strata_keep_their_sizes() -> None:
    strata = np.array([0] * 9 + [1])
    interval = estimate(share(strata == 1), strata)
    assert (interval.low, interval.high) == (0.1, 0.1)
