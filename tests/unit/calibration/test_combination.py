"""The combined score: it rises with every sign, whatever good parts look like."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judo_edge.calibration.combination import LN2, Combination, SignScale, combination_from_signs, sign_scale
from judo_edge.calibration.logistic import weights_from_labels
from judo_edge.errors import InputError

NAMES = ("a", "b", "c")
FINITE = st.floats(-1e6, 1e6)


def good_signs(count: int = 200, seed: int = 0) -> np.ndarray:
    """A plain sign, a heavy-tailed one and a constant one."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(-5, 1, count), rng.standard_t(2, count), np.full(count, -3.0)])


def defect_signs(count: int = 40, seed: int = 1) -> np.ndarray:
    """Seen by the first sign only."""
    signs = good_signs(count, seed)
    signs[:, 0] += 6
    return signs


RULES = {
    "good": combination_from_signs(NAMES, good_signs()),
    "both": combination_from_signs(NAMES, good_signs(), defect_signs()),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@given(values=st.tuples(FINITE, FINITE, FINITE), step=st.floats(0, 1e6), place=st.integers(0, 2))
def test_a_larger_sign_never_lowers_the_score(
    rule: Combination, values: tuple[float, float, float], step: float, place: int
) -> None:
    evidence = dict(zip(NAMES, values, strict=True))
    more = {**evidence, NAMES[place]: values[place] + step}
    assert math.isfinite(rule.score(evidence))
    assert rule.score(more) >= rule.score(evidence) - 1e-9


def test_the_surprise_of_a_sign_is_its_probability_among_good_parts() -> None:
    values = np.random.default_rng(0).exponential(2.0, 4000)
    sign = sign_scale("a", values)
    assert sign.centre == pytest.approx(2 * LN2, rel=0.05) and sign.scale == pytest.approx(2.0, rel=0.1)
    assert sign.surprise(sign.centre) == pytest.approx(LN2)
    expected = -math.log((values >= 4.0).mean())
    assert sign.surprise(4.0) == pytest.approx(expected, rel=0.1)


def test_one_wild_good_part_does_not_move_the_scale() -> None:
    values = np.random.default_rng(0).normal(0, 1, 41)
    wild = np.append(values, 1e9)
    assert sign_scale("a", wild).scale == pytest.approx(sign_scale("a", values).scale, rel=0.2)


def test_a_constant_sign_does_not_explode() -> None:
    sign = sign_scale("a", np.full(50, -3.0))
    assert sign.surprise(-3.0 + 1e-6) == pytest.approx(LN2, abs=0.01)
    assert 20 < sign.surprise(3.0) < 100
    zero = sign_scale("a", np.zeros(50))
    assert math.isfinite(float(zero.surprise(1e30)))


def test_one_telling_sign_is_not_drowned_by_quiet_ones() -> None:
    rule = RULES["good"]
    usual = {"a": -5.0, "b": 0.0, "c": -3.0}
    assert rule.score({**usual, "a": 10.0}) > rule.score({"a": -3.5, "b": 1.5, "c": -3.0})


def test_defects_teach_which_sign_tells() -> None:
    weights = np.array(RULES["both"].weights)
    assert weights[0] > weights[1] and (weights >= 0).all() and RULES["both"].kind == "good and defective parts"
    assert RULES["good"].weights == (0.0, 0.0, 0.0, 1.0)


def test_few_defects_stay_near_the_rule_of_good_parts() -> None:
    one = np.array(combination_from_signs(NAMES, good_signs(), defect_signs(1)).weights)
    many = np.array(combination_from_signs(NAMES, good_signs(), defect_signs(100)).weights)
    prior = np.array([0, 0, 0, 1.0])
    assert np.linalg.norm(one - prior) < np.linalg.norm(many - prior)


def test_logistic_weights_are_where_the_projected_gradient_vanishes() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) >= 40
    features = rng.normal(0, 1, (60, 3)) + labels[:, None] * np.array([2.0, 0.0, -1.0])
    prior = np.array([0.5, 0.5, 0.5])
    weights = weights_from_labels(features, labels, prior)

    def loss(point: np.ndarray) -> float:
        """Balanced log loss with the best intercept of a fine grid, and the pull to the prior."""
        logits = features @ point
        share = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
        signs = np.where(labels, 1, -1)
        grid = np.linspace(-6, 6, 2401)
        losses = [share @ np.logaddexp(0, -signs * (logits + shift)) for shift in grid]
        return float(min(losses) + np.sum((point - prior) ** 2) / (2 * 21))

    assert weights[2] == 0 and weights[0] > 0.5
    for place in range(3):
        for step in (-0.03, 0.03):
            moved = weights.copy()
            moved[place] = max(0.0, moved[place] + step)
            assert loss(moved) >= loss(weights) - 1e-6


@pytest.mark.parametrize("evidence", [{}, {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0, "c": math.nan}])
def test_a_missing_sign_is_named(evidence: dict[str, float]) -> None:
    assert "c" in RULES["good"].missing(evidence)
    with pytest.raises(InputError, match=r"no .*c"):
        RULES["good"].score(evidence)


def test_defects_that_look_better_than_good_parts_are_refused() -> None:
    with pytest.raises(InputError, match="no worse than good parts"):
        combination_from_signs(("a",), np.random.default_rng(0).normal(0, 1, (50, 1)), np.full((200, 1), -40.0))


def test_signs_of_good_parts_must_be_finite() -> None:
    with pytest.raises(InputError, match="not finite"):
        combination_from_signs(("a",), np.array([[1.0], [math.inf]]))


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0), (-1.0, 1.0)])
def test_weights_that_make_no_score_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Combination(kind="good parts", signs=(SignScale(name="a", centre=0, scale=1),), weights=weights)
