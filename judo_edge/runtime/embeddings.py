"""Embeddings of references: in memory, over a store on disk that outlives the process. Knows no engine.

Only references are kept: a query is seen once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from judo_edge.core import Floats
from judo_edge.runtime.arrayfile import Arrays
from judo_edge.runtime.arraystore import ArrayKey, ArrayStore, array_key
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.references import ReferencePhoto
from judo_edge.vision.geometry import Preprocessing


def embedding_key(reference: ReferencePhoto, preprocessing: Preprocessing, engine_digest: str) -> ArrayKey:
    """Return what decides a reference's embedding: its decoded pixels, how they become patches, and the engine."""
    return array_key(
        reference.reference_id,
        kind="embedding",
        pixels=reference.sha256,
        preprocessing=preprocessing.model_dump_json(),
        engine=engine_digest,
    )


@dataclass
class CacheCounts:
    """Where entries came from since the cache was made."""

    computed: int = 0
    """By the engine."""
    read: int = 0
    """From disk."""
    hits: int = 0
    """From memory."""


class EmbeddingCache:
    """The most recently used embeddings in memory, and all of them on disk when there is a store."""

    def __init__(self, store: ArrayStore | None = None, max_entries: int = 64) -> None:
        """Keep at most `max_entries` at hand; those that lie on disk are mapped, and cost no memory of the process."""
        self.counts = CacheCounts()
        self._store, self._max_entries = store, max_entries
        self._known: OrderedDict[ArrayKey, Embedding] = OrderedDict()

    def __len__(self) -> int:
        """Count the embeddings at hand."""
        return len(self._known)

    def get(self, key: ArrayKey, compute: Callable[[], Embedding]) -> Embedding:
        """Return the embedding of a key, computed when it is not known; its arrays are read-only and stay the same."""
        if key in self._known:
            self.counts.hits += 1
        else:
            self._keep(key, self._read(key) or self._computed(key, compute))
        self._known.move_to_end(key)
        return self._known[key]

    def knows(self, key: ArrayKey) -> bool:
        """Tell whether a key's embedding need not be computed; one that lies on disk is then at hand."""
        if key not in self._known and (found := self._read(key)):
            self._keep(key, found)
        return key in self._known

    def _keep(self, key: ArrayKey, embedding: Embedding) -> None:
        self._known[key] = embedding
        while len(self._known) > self._max_entries:
            self._known.popitem(last=False)

    def _read(self, key: ArrayKey) -> Embedding | None:
        arrays = self._store.read(key) if self._store else None
        if arrays is None:
            return None
        self.counts.read += 1
        return _embedding_from_arrays(arrays)

    def _computed(self, key: ArrayKey, compute: Callable[[], Embedding]) -> Embedding:
        self.counts.computed += 1
        arrays = {name: _own(array) for name, array in _arrays_from_embedding(compute()).items()}
        return _embedding_from_arrays(self._store.write(key, arrays) if self._store else arrays)


def _arrays_from_embedding(embedding: Embedding) -> dict[str, Floats]:
    features = {} if embedding.features is None else {"features": embedding.features}
    return {"rows": embedding.rows, **features}


def _embedding_from_arrays(arrays: Arrays) -> Embedding:
    return Embedding(arrays["rows"], arrays.get("features"))


def _own(array: Floats) -> Floats:
    """Return a read-only copy: an engine may use its output again."""
    copied = np.array(array, dtype=np.float32, copy=True)
    copied.flags.writeable = False
    return copied
