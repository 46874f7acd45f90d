"""The reference that looks most like a frame, by what the vision graph says of both. Knows no files and no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from judo_edge.core import Floats
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.references import ReferencePhoto


class Match(NamedTuple):
    """The reference chosen for a frame."""

    photo: ReferencePhoto
    embedding: Embedding
    similarity: float
    """Cosine of the global features, -1 to 1; 1 where there was nothing to choose between."""


class NearestEmbedding:
    """Picks the reference whose global feature is nearest to the frame's; the first one enrolled wins a tie.

    The global feature is the mean of the vision rows at unit length, the measure the cosine. References are embedded at
    the first choice among them; a choice then is one product of an (N, D) matrix with a vector.
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
    """Return the mean of a photo's (T, D) vision rows as a (D,) float32 vector of unit length."""
    mean = embedding.rows.mean(axis=0, dtype=np.float32)
    unit: Floats = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit
