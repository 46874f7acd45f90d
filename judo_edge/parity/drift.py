"""How far one item's numbers moved: visual rows, logits along a reply, margins. Plain arrays, no engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from judo_edge.core import Bools, Floats

NUM_CANDIDATES = 1024
"""Logits that are compared at a place: the reference's best; the rest of a large vocabulary is never written."""
NEAR_TIE = 0.5
"""Lead of the best token over the second, in logits, under which another kernel may choose the other."""
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class RowDrift:
    """One photo's visual rows against the reference's, row by row in order."""

    cosine_min: float
    cosine_mean: float
    error_max: float
    """Largest distance of a row from the reference's, as a share of that row's norm."""


@dataclass(frozen=True)
class Best:
    """The reference's best tokens at each place, best first."""

    tokens: np.ndarray[tuple[int, int], np.dtype[np.int32]]
    """(R, K)."""
    logits: Floats
    """(R, K)."""

    @property
    def lead(self) -> Floats:
        """Return how far the best token leads, (R,) logits."""
        lead: Floats = self.logits[:, 0] - self.logits[:, 1]
        return lead


@dataclass(frozen=True)
class LogitDrift:
    """Logits along one reply against the reference's."""

    differences: Floats
    """(R,) mean absolute difference at each place, over the compared tokens; infinite where one is not finite."""
    largest: float
    agrees: Bools
    """(R,) whether the best token is the reference's best."""
    is_near_tie: Bools
    """(R,) whether the reference itself nearly chose another."""


def row_drift(rows: Floats, reference: Floats) -> RowDrift:
    """Compare (T, D) rows in order; not a number when a row is."""
    ours, theirs = rows.astype(np.float64), reference.astype(np.float64)
    sizes = np.maximum(np.linalg.norm(theirs, axis=1), _TINY)
    with np.errstate(invalid="ignore"):  # a row of infinities has no direction: not a number is the answer
        cosines = np.sum(ours * theirs, axis=1) / np.maximum(np.linalg.norm(ours, axis=1) * sizes, _TINY)
        errors = np.linalg.norm(ours - theirs, axis=1) / sizes
    return RowDrift(float(cosines.min()), float(cosines.mean()), float(errors.max()))


def best_from_logits(logits: Floats) -> Best:
    """Keep the best tokens of (R, V) logits."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :NUM_CANDIDATES]
    return Best(order.astype(np.int32), np.take_along_axis(logits, order, axis=1))


def logit_drift(logits: Floats, reference: Best) -> LogitDrift:
    """Compare (R, V) logits with the reference's best at the same places."""
    ours = np.take_along_axis(logits, reference.tokens.astype(np.int64), axis=1)
    distance = np.abs(ours.astype(np.float64) - reference.logits)
    distance[~np.isfinite(distance)] = np.inf
    finite = np.isfinite(logits).all(axis=1)
    agrees = finite & (np.where(np.isfinite(logits), logits, -np.inf).argmax(axis=1) == reference.tokens[:, 0])
    differences = distance.mean(axis=1).astype(np.float32)
    return LogitDrift(differences, float(distance.max()), agrees, reference.lead < NEAR_TIE)


def margin_drift(margins: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """Return the absolute change of each margin of the reference; infinite where the bundle's is not finite."""
    return {name: abs(margins[name] - value) if name in margins else float("inf") for name, value in reference.items()}
