"""Additive attention masks of a decoder pass: what each new position may see. Knows no engine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats

DROP = -1e9
"""Added to the score of a position that must not be attended to: exp() of it is exactly zero in float32."""
DROP_HALF = -30000.0
"""The same where the graph computes in float16, whose largest number is 65504."""


def causal_mask(num_new: int, num_past: int, drop: float = DROP) -> Floats:
    """Return the mask (1, 1, S, P + S): a new position sees all the past, itself and the new ones before."""
    mask = np.zeros((num_new, num_past + num_new), dtype=np.float32)
    mask[:, num_past:] = np.triu(np.full((num_new, num_new), drop, dtype=np.float32), k=1)
    return mask[None, None]


def capacity_mask(num_new: int, num_past: int, capacity: int, drop: float = DROP) -> Floats:
    """Return the mask (1, 1, S, C) over a whole cache of C places, of which those after a new position are hidden."""
    mask = np.full((1, 1, num_new, capacity), drop, dtype=np.float32)
    mask[..., : num_past + num_new] = causal_mask(num_new, num_past, drop)
    return mask


def drop_from_dtype(dtype: npt.DTypeLike) -> float:
    """Return what hides a position in a graph that computes in `dtype`."""
    return DROP_HALF if np.dtype(dtype) == np.float16 else DROP
