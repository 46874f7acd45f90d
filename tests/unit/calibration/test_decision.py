"""From signs to a decision: which photos serve for what, what is missing, what a changed file says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judo_edge.calibration.conformal import chance_within
from judo_edge.calibration.decision import decision_from_bytes
from judo_edge.calibration.fit import MIN_GOOD, fit_from_observations
from judo_edge.core import Decision
from judo_edge.errors import ConfigError, InputError
from tests.decisions import HERE, decision_of, made_decision, observed

PATH = Path("0001.json")


def test_the_rule_and_the_threshold_come_from_different_photos() -> None:
    fit = fit_from_observations(observed(100), 0.05, 0.9)
    used = {use: {photo.sha256 for photo in fit.photos if photo.use == use} for use in ("rule", "threshold")}
    assert len(used["rule"]) == 25 and len(used["threshold"]) == 75 and not used["rule"] & used["threshold"]
    assert fit.guarantee.num_photos == 75


def test_the_order_of_the_photos_changes_nothing() -> None:
    photos = [*observed(100), *observed(10, shift=4.0, seed=1)]
    one, other = (fit_from_observations(order, 0.05, 0.9) for order in (photos, photos[::-1]))
    assert decision_of(one) == decision_of(other) and one.caught == other.caught


def test_a_single_sign_uses_every_photo_twice_and_rejects_the_same_parts_at_any_scale() -> None:
    photos = observed(60, names=("a",))
    fit = fit_from_observations(photos, 0.05, 0.9)
    assert fit.guarantee.num_photos == 60 and {photo.use for photo in fit.photos} == {"both"}
    signs = sorted((photo.evidence["a"] for photo in photos), reverse=True)
    largest = signs[fit.guarantee.rank - 1]
    decide = decision_of(fit).decide
    assert decide({"a": largest}).decision is Decision.OK
    assert decide({"a": largest + 1e-3}).decision is Decision.NOK


def test_realised_rates_follow_the_promise_with_a_fitted_rule() -> None:
    fresh = np.array([list(one.evidence.values()) for one in observed(4000, seed=999)])
    within = []
    for seed in range(100):
        fit = fit_from_observations(observed(80, seed=seed), 0.05, 0.9)
        within.append((fit.rule.scores(fresh) > fit.threshold).mean() <= 0.05)
    promised = chance_within(60, fit.guarantee.rank, 0.05)
    assert np.mean(within) == pytest.approx(promised, abs=0.08)


def test_a_frame_that_lacks_a_sign_is_never_ok() -> None:
    decision = made_decision()
    for evidence in ({}, {"a": -9.0}, {"a": -9.0, "b": math.nan}, {"a": math.inf, "b": 0.0}):
        found = decision.decide(evidence)
        assert (
            found.decision is Decision.NOT_DECIDABLE
            and found.score is None
            and "which this frame lacks" in found.reason
        )


def test_more_of_a_sign_turns_ok_into_nok_once() -> None:
    decision = made_decision()
    found = [decision.decide({"a": value, "b": 0.0, "more": 1.0}) for value in np.linspace(-5, 15, 60)]
    kinds = [one.decision for one in found]
    assert kinds == sorted(kinds, key=[Decision.OK, Decision.NOK].index) and set(kinds) == {Decision.OK, Decision.NOK}
    assert "most telling: a 15" in found[-1].reason and found[-1].threshold == decision.threshold


def test_the_photos_of_the_threshold_pass_their_own_threshold_one_by_one() -> None:
    photos = observed(40, seed=7)
    decision = decision_of(fit_from_observations(photos, 0.01, 0.9))
    held = {photo.sha256 for photo in decision.photos if photo.use == "threshold"}
    verdicts = [decision.decide(one.evidence).decision for one in photos if one.sha256 in held]
    assert set(verdicts) == {Decision.OK} and decision.guarantee.rank == 1


def test_constant_signs_make_a_threshold_that_a_real_change_exceeds() -> None:
    photos = [replace(one, evidence={"a": -3.0, "b": -3.0}) for one in observed(40)]
    decide = decision_of(fit_from_observations(photos, 0.05, 0.9)).decide
    assert decide({"a": -3.0, "b": -3.0}).decision is Decision.OK
    assert decide({"a": 3.0, "b": -3.0}).decision is Decision.NOK


def test_a_sign_that_many_lack_is_left_out_and_a_photo_that_lacks_one_is_too() -> None:
    photos = observed(100)
    photos[3] = replace(photos[3], evidence={"a": 0.0})
    photos[4] = replace(photos[4], evidence={})
    fit = fit_from_observations(photos, 0.05, 0.9)
    assert fit.rule.needs == ("a", "b")
    assert fit.left_out == {"lacks a sign of the rule": 1, "could not be inspected": 1} and len(fit.photos) == 98
    some = [replace(one, evidence={"a": one.evidence["a"]}) if number % 2 else one for number, one in enumerate(photos)]
    assert fit_from_observations(some, 0.05, 0.9).rule.needs == ("a",)


def test_too_few_photos_and_photos_given_twice_are_refused() -> None:
    with pytest.raises(InputError, match=f"19 usable good photos; wanted: at least {MIN_GOOD}"):
        fit_from_observations(observed(19), 0.05, 0.9)
    with pytest.raises(InputError, match="1 photos given twice"):
        fit_from_observations([*observed(30), observed(30)[0]], 0.05, 0.9)
    with pytest.raises(InputError, match="no sign"):
        fit_from_observations([replace(one, evidence={}) for one in observed(30)], 0.05, 0.9)


def test_defects_are_judged_by_rules_that_did_not_see_them() -> None:
    far, near = observed(10, shift=9.0, seed=1), observed(10, shift=-0.001, seed=2)
    fit = fit_from_observations([*observed(100), *far, *near], 0.05, 0.9)
    order = [one.sha256 for one in sorted([*far, *near], key=lambda one: one.sha256)]
    caught = dict(zip(order, fit.caught, strict=True))
    assert all(caught[one.sha256] for one in far) and sum(caught[one.sha256] for one in near) <= 3
    assert len(fit.defect_scores) == 20 and fit.rule.kind == "good and defective parts"


def changed(change: dict[str, Any]) -> bytes:
    return json.dumps({**json.loads(made_decision().sealed().model_dump_json()), **change}).encode()


def test_a_decision_survives_its_file() -> None:
    decision = made_decision().sealed()
    assert decision_from_bytes(decision.model_dump_json(indent=2).encode(), PATH) == decision


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (changed({"threshold": 99.0}), "was changed after it was written"),
        (changed({"part": "base"}), "was changed after it was written"),
        (changed({"extra": 1}), "unknown key 'extra'"),
        (changed({"format_version": 2}), "format_version"),
        (changed({"photos": []}), "photos"),
        (b"[]", "is not a decision"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
    ],
)
def test_a_changed_file_is_refused(raw: bytes, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        decision_from_bytes(raw, PATH)


def test_circumstances_differ_in_words() -> None:
    assert HERE.difference(HERE) == ""
    other = HERE.model_copy(update={"bundle_digest": "b" * 64})
    assert "bundle aaaaaaaaaaaa, this is bbbbbbbbbbbb" in HERE.difference(other)
    assert "engine scripted, this is tensorrt" in HERE.difference(HERE.model_copy(update={"engine": "tensorrt"}))
    moved = HERE.model_copy(update={"reference_ids": ("r2", "r3", "r4")})
    assert HERE.difference(moved) == "the references changed: 2 new, 1 no longer in use"
