"""Logistic regression with weights that are not negative, drawn towards given ones: few defects change little.

Minimises mean balanced log loss + strength / (1 + defects) * ||w - prior||^2 / 2 by accelerated projected gradients
(Beck and Teboulle 2009, FISTA); convex, so it has one solution. Knows no signs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
STRENGTH = 1.0
NUM_STEPS, TOLERANCE = 3000, 1e-7
"""Most steps, and the change of every weight below which no more are taken."""


def weights_from_labels(
    features: Array, is_defect: npt.NDArray[np.bool_], prior: Array, strength: float = STRENGTH
) -> Array:
    """Return weights (F,) >= 0 of features (N, F); both labels (N,) must occur and count alike in sum."""
    share = np.where(is_defect, 0.5 / is_defect.sum(), 0.5 / (~is_defect).sum())
    pull = strength / (1 + int(is_defect.sum()))
    step = 1 / (0.25 * float(share @ ((features**2).sum(axis=1) + 1)) + pull)
    point = ahead = np.append(prior, -float(np.median(features @ prior)))
    padded, momentum = np.column_stack([features, np.ones(len(features))]), 1.0
    for _ in range(NUM_STEPS):
        gradient = padded.T @ (share * (_probabilities(padded @ ahead) - is_defect))
        gradient[:-1] += pull * (ahead[:-1] - prior)
        moved: Array = ahead - step * gradient
        moved[:-1] = np.maximum(moved[:-1], 0)
        if np.abs(moved - point).max() < TOLERANCE:
            return moved[:-1]
        following = (1 + float(np.sqrt(1 + 4 * momentum**2))) / 2
        point, ahead = moved, moved + (momentum - 1) / following * (moved - point)
        momentum = following
    return point[:-1]


def _probabilities(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -40, 40))))
