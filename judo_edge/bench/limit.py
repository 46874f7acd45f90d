"""The limit of an engine: how long a part takes when the whole reply is known beforehand.

Vision of the query and one decoder pass over prompt and reply, with logits on the rows that predict the reply. No draft
that is checked in the prefill can be faster on the same engine. A prefix that the bundle brings is not read again; one
that the runtime keeps from earlier frames is, so with a cached reference prefix a part may beat this limit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from judo_edge.bench.sources import Shot
from judo_edge.bundle import Bundle
from judo_edge.core import Floats, Ints
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.embeddings import EmbeddingCache, embedding_key
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.prefix import prefix_from_bundle
from judo_edge.runtime.prompt import embed_from_table
from judo_edge.vision.patches import patches_from_image


class Limited(NamedTuple):
    """One measurement of the limit."""

    seconds: float
    agrees: bool
    """Whether every row of the pass predicts the token that the reply has there."""


class Limit:
    """Measures the limit on one engine, with prompt and pixels of an inspector."""

    def __init__(self, bundle: Bundle, engine: Engine, inspector: Inspector) -> None:
        """Read the embedding table and the bundle's prefix."""
        self._engine, self._prompt, self._pixels = engine, inspector.prompt, inspector.preprocessing
        self._room = len(inspector.prompt) + inspector.model.profile.max_new_tokens
        self._embed = embed_from_table(bundle.embedding_table())
        self._prefix = prefix_from_bundle(bundle, inspector.prompt.ids)
        self._references = EmbeddingCache()

    def measure(self, shot: Shot, ids: Sequence[int]) -> Limited:
        """Return how long the shot takes when its reply `ids`, the end token included, is known. EngineError."""
        patches = patches_from_image(shot.image, self._pixels)
        reference = self._references.get(
            embedding_key(shot.reference, self._pixels, self._engine.digest),
            lambda: Embedding(self._encoded(patches_from_image(shot.reference.load(), self._pixels))),
        ).rows
        started = time.perf_counter()
        tokens = self._predicted(self._encoded(patches), reference, np.asarray(ids, dtype=np.int64))
        seconds = time.perf_counter() - started
        return Limited(seconds, tokens == tuple(ids))

    def _predicted(self, query: Floats, reference: Floats, ids: Ints) -> tuple[int, ...]:
        """Return what one pass over prompt and reply predicts at each place of the reply."""
        prompt = self._prompt.juxtapose(query, reference)
        reply = self._embed(ids[:-1])[None]
        places = np.arange(prompt.next_position, prompt.next_position + ids.size - 1, dtype=np.int64)
        embeds = np.concatenate((prompt.embeds, reply), axis=1)
        positions = np.concatenate((prompt.positions, np.broadcast_to(places, (3, 1, places.size))), axis=2)
        self._engine.start(self._room, self._prefix)
        known = self._engine.length
        rows = np.arange(len(self._prompt) - 1 - known, embeds.shape[1] - known, dtype=np.int64)
        decoded = self._engine.advance(embeds[:, known:], positions[:, :, known:], rows)
        return tuple(int(token) for token in decoded.logits[0].argmax(axis=-1))

    def _encoded(self, patches: Floats) -> Floats:
        return np.array(self._engine.encode(patches[None]).rows[0], dtype=np.float32, copy=True)
