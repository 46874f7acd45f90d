"""The good parts as the model sees them: which one a frame is compared with, and how far it is from all of them.

Embeddings of references are computed once and kept; see `embeddings`. Knows no prompt and no reply.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from judo_edge.core import Frame
from judo_edge.runtime.align import Aligner, Alignment
from judo_edge.runtime.arraystore import ArrayKey, ArrayStore
from judo_edge.runtime.choice import NearestEmbedding
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.embeddings import CacheCounts, EmbeddingCache, embedding_key
from judo_edge.runtime.model import Model
from judo_edge.runtime.partfeatures import FeatureMap, PartFeatures
from judo_edge.runtime.partrecipe import PartRecipe, Place
from judo_edge.runtime.references import ReferencePhoto, References

MAX_PARTS = 64
"""Parts whose references stay ready to be compared with."""


class Chosen(NamedTuple):
    """The reference of a frame."""

    photo: ReferencePhoto
    embedding: Embedding


class Gallery:
    """References of all parts over one model."""

    def __init__(
        self,
        model: Model,
        references: References,
        recipe_of: Callable[[str], PartRecipe],
        arrays: ArrayStore | None = None,
    ) -> None:
        """Compare by what `references` offers; with `arrays` embeddings outlive the process."""
        self._model, self._references, self._recipe_of = model, references, recipe_of
        self._embeddings = EmbeddingCache(arrays)
        self._nearest = NearestEmbedding(self.embedding)
        self._aligner = lru_cache(maxsize=MAX_PARTS)(Aligner)
        self._features = lru_cache(maxsize=MAX_PARTS)(self._part_features)

    @property
    def counts(self) -> CacheCounts:
        """Return where embeddings came from."""
        return self._embeddings.counts

    def key(self, photo: ReferencePhoto) -> ArrayKey:
        """Return what decides a reference's embedding."""
        return embedding_key(photo, self._model.preprocessing, self._model.engine.digest)

    def embedding(self, photo: ReferencePhoto) -> Embedding:
        """Return a reference's embedding, computed when it is nowhere known."""
        return self._embeddings.get(self.key(photo), lambda: self._model.embedding(self._model.patches(photo.load())))

    def unknown(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
        """Return the references of a frame's part whose embeddings must be computed; InputError when it has none."""
        return tuple(
            photo for photo in self._references.candidates(frame) if not self._embeddings.knows(self.key(photo))
        )

    def keep(self, photo: ReferencePhoto, embedding: Embedding) -> None:
        """Take a reference's embedding that was computed elsewhere."""
        self._embeddings.get(self.key(photo), lambda: embedding)

    def aligned(self, frame: Frame) -> tuple[ReferencePhoto, Alignment] | None:
        """Lay a frame over the reference that its pixels are nearest to; None when its part is not aligned."""
        recipe = self._recipe_of(frame.part)
        if recipe.align == "none":
            return None
        photo = self._references.pick(frame)
        return photo, self._aligner(recipe).align(frame.image, photo)

    def chosen(self, frame: Frame, query: Embedding, over: ReferencePhoto | None = None) -> Chosen:
        """Return the reference that a frame was laid over, else the nearest one; InputError when there is none."""
        if over is not None:
            return Chosen(over, self.embedding(over))
        match = self._nearest.nearest(query, self._references.candidates(frame))
        return Chosen(match.photo, match.embedding)

    def compared(self, frame: Frame, query: Embedding) -> FeatureMap:
        """Return how far a frame is from all references of its part, place by place."""
        place = self._recipe_of(frame.part).place
        return self._features(self._references.candidates(frame), place).compare(query)

    def _part_features(self, photos: tuple[ReferencePhoto, ...], place: Place) -> PartFeatures:
        is_aligned = None if place == "learned" else place == "same"
        return PartFeatures([self.embedding(photo) for photo in photos], is_aligned=is_aligned)
