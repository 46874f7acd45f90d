"""Distances between the patches of a query and those of its good references: where a photo shows what they do not.

Cosine distance of each query patch to the most alike patch of any reference: at the same place (parts that lie alike)
or anywhere (loose parts; the memory of patches of PatchCore, Roth et al., CVPR 2022, without its subsampling). Arrays
in, arrays out; `partfeatures` says what a distance means for a part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from judo_edge.core import Bools, Floats
from judo_edge.errors import EngineError
from judo_edge.runtime.embedding import Embedding

SAME_PLACE, ANYWHERE = 0, None
"""Search radii in patches: the place itself, and the whole photo."""


def distance_map(query: Embedding, references: Sequence[Embedding], radius: int | None = SAME_PLACE) -> Floats:
    """Return (side, side) float32 cosine distances, 0 to 2, to the nearest of the references; see `distances`.

    Embeddings without patch features are compared by their rows, one for each visual token. Raises EngineError when
    there is no reference, or values are not finite or not alike in shape.
    """
    return squared(distances(unit_rows([query])[0], unit_rows(references), radius))


def distances(query: Floats, references: Floats, radius: int | None = SAME_PLACE) -> Floats:
    """Return (P,) float32: 1 - the greatest cosine of each query row with the rows in its reach in any reference.

    `query` (P, F) and `references` (R, P, F) are unit rows of square photos. In reach are the rows at most `radius`
    places away down and across; None reaches the whole photo.
    """
    if query.shape != references.shape[1:]:
        found, wanted = f"a photo with features {query.shape}", f"{references.shape[1:]} as in its references"
        raise EngineError(found, wanted, "compute the references again by this engine")
    if radius == SAME_PLACE:
        alike = np.einsum("pf,rpf->rp", query, references).max(axis=0)
    else:
        near = None if radius is None else neighbourhood(math.isqrt(len(query)), radius)
        alike = np.max([_most_alike(query, reference, near) for reference in references], axis=0)
    apart: Floats = np.maximum(1 - alike, 0).astype(np.float32)
    return apart


def unit_rows(embeddings: Sequence[Embedding]) -> Floats:
    """Return (N, P, F) float32 rows of length one: the patch features, or the tokens' rows where there are none.

    Raises EngineError when there is no photo, or rows are not finite, not alike in shape or no square number.
    """
    if not embeddings:
        raise EngineError("no reference", "one good photo of the part or more", "judo-edge enroll")
    parts = [part.rows if part.features is None else part.features for part in embeddings]
    if len({part.shape for part in parts}) != 1 or math.isqrt(len(parts[0])) ** 2 != len(parts[0]):
        found = f"features of shapes {sorted({part.shape for part in parts})}"
        raise EngineError(found, "photos with features of one square shape", "compute them again by one engine")
    rows = np.stack(parts).astype(np.float32, copy=False)
    if not np.isfinite(rows).all():
        raise EngineError("features that are not finite", "finite numbers", "check the vision graph: judo-edge verify")
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), np.finfo(np.float32).tiny)
    return unit


def neighbourhood(side: int, radius: int) -> Bools:
    """Return (P, P) booleans for a grid of side * side places: which lie at most `radius` apart down and across."""
    rows, cols = np.divmod(np.arange(side * side), side)
    near: Bools = np.maximum(abs(rows[:, None] - rows), abs(cols[:, None] - cols)) <= radius
    return near


def squared(values: Floats) -> Floats:
    """Return the values (P,) of a square photo as (side, side)."""
    side = math.isqrt(len(values))
    return values.reshape(side, side)


def _most_alike(query: Floats, reference: Floats, near: Bools | None) -> Floats:
    cosines = query @ reference.T
    best: Floats = (cosines if near is None else np.where(near, cosines, np.float32(-1))).max(axis=1)
    return best
