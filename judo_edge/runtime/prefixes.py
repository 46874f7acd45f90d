"""Keys and values of what prompts begin with: computed once by the engine, kept in memory and on disk.

With the query first that is the text before the photos; with the reference first, all up to the query's first row.
Knows nothing of what the tokens mean.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.core import Ints
from judo_edge.runtime.arraystore import ArrayKey, ArrayStore, array_key
from judo_edge.runtime.decoder import PromptInputs
from judo_edge.runtime.embeddings import CacheCounts
from judo_edge.runtime.engines.base import Engine, KeysValues

TEXT_LABEL = "text"
"""Label of keys and values that hold no reference; never pinned."""
DEFAULT_MAX_BYTES = 512 << 20
_NAME = "keys_values"


class PrefixStore:
    """Keys and values (P, L, 2, 1, Hkv, hd) by the tokens and the reference that they are of."""

    def __init__(
        self,
        engine: Engine,
        bundle: Bundle,
        store: ArrayStore | None = None,
        exact: KeysValues | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        """Keep at most `max_bytes` at hand; without a `store` nothing outlives the process.

        `exact` are the bundle's own keys and values of the first positions of every prompt, which are not computed
        again.
        """
        self.counts = CacheCounts()
        self._engine, self._store, self._exact, self._max_bytes = engine, store, exact, max_bytes
        manifest = bundle.manifest
        self._decided_by = {
            "kind": "prefix",
            "bundle": bundle.content_digest,
            "engine": f"{engine.name} {engine.digest}",
            "form": f"{manifest.dialect} {manifest.dtype}",
            "exact": str(0 if exact is None else len(exact)),
        }
        self._known: OrderedDict[ArrayKey, KeysValues] = OrderedDict()

    def key(self, ids: Ints, reference: ArrayKey | None = None) -> ArrayKey:
        """Return the key of the positions of `ids` (P,); `reference` is the embedding's key when they hold one."""
        label, digest = reference or (TEXT_LABEL, "")
        return array_key(label, ids=np.ascontiguousarray(ids, "<i8").tobytes(), reference=digest, **self._decided_by)

    def get(self, prompt: PromptInputs, ids: Ints, reference: ArrayKey | None = None) -> KeysValues:
        """Return the keys and values of a prompt's first P positions, whose token ids are `ids` (P,).

        The same object as before while it is at hand, so that `Engine.start` need not load it again. When they must be
        computed the engine's positions are lost: call it before the prompt is started. Raises EngineError.
        """
        key = self.key(ids, reference)
        if key in self._known:
            self.counts.hits += 1
        else:
            self._keep(key, self._read(key), prompt, ids.size)
        self._known.move_to_end(key)
        return self._known[key]

    def num_bytes(self) -> int:
        """Return what is at hand."""
        return sum(array.nbytes for array in self._known.values())

    def _keep(self, key: ArrayKey, found: KeysValues | None, prompt: PromptInputs, length: int) -> None:
        """Hold on to what was found or computed; the newest entry stays even when it alone is too large."""
        self._known[key] = self._computed(key, prompt, length) if found is None else found
        while len(self._known) > 1 and self.num_bytes() > self._max_bytes:
            self._known.popitem(last=False)

    def _read(self, key: ArrayKey) -> KeysValues | None:
        arrays = self._store.read(key) if self._store else None
        if arrays is None:
            return None
        self.counts.read += 1
        return arrays[_NAME]

    def _computed(self, key: ArrayKey, prompt: PromptInputs, length: int) -> KeysValues:
        """Let the engine read the positions behind the exact ones."""
        self.counts.computed += 1
        exact = None if self._exact is None else self._exact[:length]
        known = 0 if exact is None else len(exact)
        self._engine.start(length, exact)
        if known < length:
            last = np.array([length - known - 1], dtype=np.int64)
            self._engine.advance(prompt.embeds[:, known:length], prompt.positions[..., known:length], last)
        arrays = {_NAME: self._engine.keys_values(0, length)}
        return (self._store.write(key, arrays) if self._store else arrays)[_NAME]
