"""The reference that looks most like a frame, by what the vision graph says of both. Knows no files and no engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from judo_edge.core import Floats
from judo_edge.errors import EngineError
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.references import ReferencePhoto

PLACES = 8
"""Places of the global feature along a side."""


class Match(NamedTuple):
    """The reference chosen for a frame."""

    photo: ReferencePhoto
    embedding: Embedding
    similarity: float
    """Cosine of the global features, -1 to 1; 1 where there was nothing to choose between."""


class NearestEmbedding:
    """Picks the reference whose global feature is nearest to the frame's; the first one enrolled wins a tie.

    The global feature is the field of vision rows, coarsened, at unit length; the measure is the cosine. It keeps where
    things are: a part that lies turned is better compared with one that lies alike (LOG.md). References are embedded at
    the first choice among them; a choice then is one product of a matrix with a vector.
    """

    def __init__(self, embedding_of: Callable[[ReferencePhoto], Embedding]) -> None:
        """Take what returns a reference's embedding: the cache's."""
        self._embedding_of = embedding_of
        self._matrix_of = lru_cache(maxsize=64)(self._matrix)

    def nearest(self, query: Embedding, photos: Sequence[ReferencePhoto]) -> Match:
        """Return the nearest of some references; ValueError when there are none."""
        if not photos:
            raise ValueError("no reference to choose from")
        if len(photos) == 1:
            return Match(photos[0], self._embedding_of(photos[0]), 1.0)
        similarities = self._matrix_of(tuple(photos)) @ global_feature(query)
        best = int(np.argmax(similarities))
        return Match(photos[best], self._embedding_of(photos[best]), float(similarities[best]))

    def _matrix(self, photos: tuple[ReferencePhoto, ...]) -> Floats:
        return np.stack([global_feature(self._embedding_of(photo)) for photo in photos])


def global_feature(embedding: Embedding) -> Floats:
    """Return a photo's vision rows, averaged to at most 8 x 8 places, as one float32 vector of unit length.

    Raises EngineError when the rows (T, D) are no square of tokens.
    """
    side = math.isqrt(len(embedding.rows))
    if side * side != len(embedding.rows):
        raise EngineError(f"{len(embedding.rows)} visual rows", "a square number", "export the bundle again")
    grid = np.asarray(embedding.rows, dtype=np.float32).reshape(side, side, -1)
    places = _averaged(_averaged(grid).swapaxes(0, 1)).reshape(-1)
    unit: Floats = places / max(float(np.linalg.norm(places)), 1e-12)
    return unit


def _averaged(grid: Floats) -> Floats:
    """Average the first axis over at most `PLACES` parts, alike in length but for one entry."""
    bounds = np.linspace(0, len(grid), min(PLACES, len(grid)) + 1).astype(np.int64)
    sums = np.add.reduceat(grid, bounds[:-1], axis=0)
    averaged: Floats = (sums / np.diff(bounds)[:, None, None]).astype(np.float32)
    return averaged
