"""One score from several signs of a defect: each is measured by good parts, and their surprises are combined.

A sign's surprise is -ln P(a good part's sign >= x), in nats. Its law has the good parts' median as centre, a scale from
the upper half of them, and on both sides the tail of a generalised Pareto law of fixed shape, so that it grows without
bound but only like a logarithm: one odd good part or one wild value cannot drown the other signs.

The surprises are combined by the harmonic mean of their probabilities (Wilson 2019, "The harmonic mean p-value for
combining dependent tests"), which is close to the most surprising sign and holds whatever the signs have in common.
Knows no photos and no threshold. Larger is worse everywhere, and no weight is negative: a larger sign never lowers a
score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from judo_edge.calibration.logistic import weights_from_labels
from judo_edge.config import Frozen
from judo_edge.errors import InputError

Array = npt.NDArray[np.float64]
TAIL_SHAPE = 0.1
"""Shape of the Pareto tail, near exponential; chosen with the combination on train splits and drawn pairs (LOG.md)."""
MIN_RELATIVE_SCALE = 1e-3
"""Smallest scale of a sign, by the magnitude of its centre: rounding of a constant sign is no surprise."""
LN2 = math.log(2)

Weight = Annotated[float, Field(ge=0)]


class SignScale(Frozen):
    """What good parts say of one sign."""

    name: str
    centre: float
    """Median over good parts, in the sign's own unit."""
    scale: Annotated[float, Field(gt=0)]
    """Median excess of the upper half over the centre, divided by ln 2: the scale of an exponential tail."""

    def surprise(self, values: npt.ArrayLike) -> Array:
        """Return -ln P(sign >= value) in nats for values of any shape: ln 2 at the centre, above 0, never falling."""
        distance = (np.asarray(values, dtype=np.float64) - self.centre) / self.scale
        tail = np.log1p(TAIL_SHAPE * np.abs(distance)) / TAIL_SHAPE
        return np.where(distance >= 0, LN2 + tail, -np.log1p(-0.5 * np.exp(-tail)))


class Combination(Frozen):
    """The rule that makes one score of the signs that it names; every one of them is needed."""

    kind: Literal["good parts", "good and defective parts"]
    """What it was fitted on."""
    signs: Annotated[tuple[SignScale, ...], Field(min_length=1)]
    weights: tuple[Weight, ...]
    """Of each sign's surprise, then of their combined surprise."""

    @model_validator(mode="after")
    def _check(self) -> Combination:
        if len(self.weights) != len(self.signs) + 1 or not any(self.weights):
            raise ValueError(f"{len(self.weights)} weights for {len(self.signs)} signs and their combination")
        if len({sign.name for sign in self.signs}) != len(self.signs):
            raise ValueError("a sign is named twice")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the signs."""
        return tuple(sign.name for sign in self.signs)

    def missing(self, evidence: Mapping[str, float]) -> tuple[str, ...]:
        """Return the names of the signs that the evidence lacks, or has without a finite value."""
        return tuple(name for name in self.needs if not math.isfinite(evidence.get(name, math.nan)))

    def score(self, evidence: Mapping[str, float]) -> float:
        """Return the score in nats; InputError names the signs that are missing."""
        if missing := self.missing(evidence):
            raise InputError(f"no {' and no '.join(missing)}", f"the signs {', '.join(self.needs)}", "inspect it again")
        return float(self.scores(np.array([[evidence[name] for name in self.needs]]))[0])

    def scores(self, values: Array) -> Array:
        """Return the scores (N,) in nats of signs (N, K) in the order of `needs`."""
        return np.asarray((features_from_values(self.signs, values) * np.asarray(self.weights)).sum(axis=1))


def features_from_values(signs: Sequence[SignScale], values: Array) -> Array:
    """Return (N, K + 1): the surprise of each of K signs, and their combined surprise, in nats.

    The combined one is ln(sum(exp(s)) / K): minus the logarithm of the harmonic mean of the probabilities.
    """
    surprises = np.stack([sign.surprise(values[:, column]) for column, sign in enumerate(signs)], axis=1)
    largest = surprises.max(axis=1)
    combined = largest + np.log(np.exp(surprises - largest[:, None]).mean(axis=1))
    return np.column_stack([surprises, combined])


def combination_from_signs(names: Sequence[str], good: Array, defects: Array | None = None) -> Combination:
    """Fit the rule to signs (N, K) of good parts, and (M, K) of defects if there are any.

    Raises InputError when there is no good part, a sign is not finite, or the defects are no worse than good parts.
    """
    if not len(good) or not np.isfinite(good).all():
        raise InputError("signs of good parts that are missing or not finite", "finite signs", "leave such photos out")
    signs = tuple(sign_scale(name, good[:, column]) for column, name in enumerate(names))
    alone = np.append(np.zeros(len(signs)), 1.0)
    if defects is None or not len(defects):
        return Combination(kind="good parts", signs=signs, weights=tuple(alone.tolist()))
    features = features_from_values(signs, np.concatenate([good, defects]))
    is_defect = np.arange(len(features)) >= len(good)
    weights = weights_from_labels(features, is_defect, alone)
    if not weights.any():
        raise InputError("defects that look no worse than good parts by any sign", "other defects", "check the labels")
    return Combination(kind="good and defective parts", signs=signs, weights=tuple(weights.tolist()))


def sign_scale(name: str, values: Array) -> SignScale:
    """Return centre and scale of one sign (N,) over good parts; a constant one gets the smallest scale."""
    centre = float(np.median(values))
    upper = np.sort(values)[len(values) // 2 :]
    least = MIN_RELATIVE_SCALE * max(abs(centre), MIN_RELATIVE_SCALE)
    return SignScale(name=name, centre=centre, scale=max(float(np.median(upper) - centre) / LN2, least))
