"""From the signs of photographed parts to a rule, a threshold and a promise.

Good photos are parted by the hash of their pixels, which knows nothing of their scores: the rule is fitted on one part,
the threshold is taken on the rest. With a single sign every good photo serves for both: the score only rises with that
sign, so the parts that are rejected are the same whatever its scale. Knows no files and no models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from judo_edge.calibration.combination import Combination, combination_from_signs
from judo_edge.calibration.conformal import Guarantee, guarantee_from_count, threshold_from_scores
from judo_edge.calibration.decision import PhotoUse
from judo_edge.errors import InputError

Array = npt.NDArray[np.float64]
Photos = TypeVar("Photos", Sequence["Observation"], Array)
MIN_GOOD = 20
"""Fewest good photos that say anything."""
RULE_SHARE, MIN_RULE, MAX_RULE = 0.25, 10, 100
"""Share of the good photos that the rule is fitted on, and its bounds: a median and a scale per sign need no more."""
MAX_MISSING = 0.02
"""A sign that more good photos lack is left out of the rule; fewer, and those photos are left out."""
NUM_FOLDS = 5
ROUNDING = 1e-9
"""The threshold is raised by this share, so that a photo's score computed alone and among others passes alike."""


@dataclass(frozen=True)
class Observation:
    """The signs of one photographed part."""

    sha256: str
    """Of its decoded pixels."""
    is_defect: bool
    evidence: Mapping[str, float]
    """Named signs, larger is worse; empty when the photo could not be inspected."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What the photos came to."""

    rule: Combination
    threshold: float
    guarantee: Guarantee
    photos: tuple[PhotoUse, ...]
    left_out: dict[str, int]
    good_scores: Array
    """(n,) of the photos that the threshold was taken from."""
    defect_scores: Array
    """(m,) of the defects, by the rule itself."""
    caught: tuple[bool, ...]
    """For each defect, whether a rule that was fitted without it rejects it."""


def fit_from_observations(
    observations: Sequence[Observation],
    budget: float,
    confidence: float,
    signs: Sequence[str] = (),
    min_good: int = MIN_GOOD,
) -> Fit:
    """Fit rule and threshold; `signs` are those to use, by default all that good photos have.

    Raises InputError when too few good photos can be used, a photo is given twice, or no sign is known.
    """
    _check_unique(observations)
    names = tuple(signs) or common_signs(observations)
    good, defects = _usable(observations, names, False), _usable(observations, names, True)
    if len(good) < min_good:
        raise InputError(f"{len(good)} usable good photos", f"at least {min_good}", "photograph more good parts")
    for_rule, for_threshold = parted(good, len(names))
    trained, bad = _values(for_rule, names), _values(defects, names)
    guarantee = guarantee_from_count(len(for_threshold), budget, confidence)
    rule = combination_from_signs(names, trained, bad)
    held = _values(for_threshold, names)
    return Fit(
        rule=rule,
        threshold=threshold_from_signs(rule, held, guarantee.rank),
        guarantee=guarantee,
        photos=_uses(for_rule, for_threshold, defects),
        left_out=_left_out(observations, names),
        good_scores=rule.scores(held),
        defect_scores=rule.scores(bad),
        caught=_caught(names, trained, bad, held, guarantee.rank),
    )


def common_signs(observations: Sequence[Observation]) -> tuple[str, ...]:
    """Return the signs that nearly all inspected good photos have, by name; InputError when there is none."""
    good = [one for one in observations if one.evidence and not one.is_defect]
    counts = Counter(name for one in good for name in one.evidence if _has_all(one, (name,)))
    names = tuple(sorted(name for name, count in counts.items() if count >= (1 - MAX_MISSING) * len(good)))
    if not names:
        raise InputError("no sign that all good photos have", "photos that the bundle can read", "inspect them first")
    return names


def parted(good: Photos, num_signs: int) -> tuple[Photos, Photos]:
    """Part good photos, in an order that knows nothing of their scores, into those for the rule and the threshold."""
    if num_signs == 1:
        return good, good
    count = min(max(MIN_RULE, round(RULE_SHARE * len(good))), MAX_RULE, len(good) // 2)
    return good[:count], good[count:]


def threshold_from_signs(rule: Combination, held: Array, rank: int) -> float:
    """Return the threshold in nats from signs (n, K) of good parts in the order of `rule.needs`."""
    threshold = threshold_from_scores(rule.scores(held), rank)
    return threshold + ROUNDING * max(1.0, abs(threshold))


def _check_unique(observations: Sequence[Observation]) -> None:
    repeated = [sha256 for sha256, count in Counter(one.sha256 for one in observations).items() if count > 1]
    if repeated:
        raise InputError(f"{len(repeated)} photos given twice ({repeated[0][:16]})", "each photo once", "leave one out")


def _has_all(one: Observation, names: Sequence[str]) -> bool:
    return all(np.isfinite(one.evidence.get(name, np.nan)) for name in names)


def _usable(observations: Sequence[Observation], names: Sequence[str], is_defect: bool) -> list[Observation]:
    """Return the photos of one label that have all signs, in the order of their hashes."""
    used = (one for one in observations if one.is_defect is is_defect and _has_all(one, names))
    return sorted(used, key=lambda one: one.sha256)


def _values(observations: Sequence[Observation], names: Sequence[str]) -> Array:
    rows = [[float(one.evidence[name]) for name in names] for one in observations]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))


def _uses(
    for_rule: Sequence[Observation], for_threshold: Sequence[Observation], defects: Sequence[Observation]
) -> tuple[PhotoUse, ...]:
    if for_rule is for_threshold:
        good = [PhotoUse(sha256=one.sha256, label="good", use="both") for one in for_rule]
    else:
        good = [PhotoUse(sha256=one.sha256, label="good", use="rule") for one in for_rule]
        good += [PhotoUse(sha256=one.sha256, label="good", use="threshold") for one in for_threshold]
    return (*good, *(PhotoUse(sha256=one.sha256, label="defect", use="rule") for one in defects))


def _left_out(observations: Sequence[Observation], names: Sequence[str]) -> dict[str, int]:
    reasons = Counter(
        "could not be inspected" if not one.evidence else "lacks a sign of the rule"
        for one in observations
        if not _has_all(one, names)
    )
    return dict(reasons)


def _caught(names: Sequence[str], good: Array, defects: Array, held: Array, rank: int) -> tuple[bool, ...]:
    """Ask for each defect a rule that was fitted on the other folds of defects, with its own threshold."""
    fold = np.arange(len(defects)) % min(NUM_FOLDS, max(1, len(defects)))
    caught = np.zeros(len(defects), dtype=np.bool_)
    for number in np.unique(fold):
        rule = combination_from_signs(names, good, defects[fold != number])
        caught[fold == number] = rule.scores(defects[fold == number]) > threshold_from_signs(rule, held, rank)
    return tuple(caught.tolist())
