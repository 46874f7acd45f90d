"""The decoder's loop: a preallocated KV cache and plain greedy generation over an engine.

Knows positions, masks and stop conditions; knows nothing of tokens' meaning, photos or replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError
from judo_edge.runtime.engines.base import Decoded, Engine

DROP = np.float32(-1e9)
"""Additive mask value of a position that must not be attended to: exp() of it is exactly zero in float32."""


@dataclass(frozen=True)
class CacheShape:
    """The sizes of a key/value cache; all are counts."""

    layers: int
    kv_heads: int
    head_dim: int


class KVCache:
    """Keys and values of the positions seen so far, in one buffer whose filled prefix is contiguous.

    The buffer is (C, L, 2, 1, Hkv, hd) float32 with the position first, so `past` is a view and never a copy.
    """

    def __init__(self, shape: CacheShape, capacity: int) -> None:
        """Allocate room for `capacity` positions."""
        self._shape = shape
        self._buffer = self._allocated(capacity)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Return how many positions fit."""
        return int(self._buffer.shape[0])

    @property
    def past(self) -> Floats:
        """Return the filled prefix, (length, L, 2, 1, Hkv, hd), as a view."""
        return self._buffer[: self.length]

    def reset(self, capacity: int) -> None:
        """Forget everything; allocate again only when `capacity` positions do not fit."""
        if capacity > self.capacity:
            self._buffer = self._allocated(capacity)
        self.length = 0

    def append(self, present: Floats) -> None:
        """Store the keys and values of new positions; EngineError when they are misshapen or do not fit."""
        end = self.length + present.shape[0]
        if end > self.capacity or present.shape[1:] != self._buffer.shape[1:]:
            room = f"at most {self.capacity - self.length} of {self._buffer.shape[1:]}"
            raise EngineError(f"new keys and values of shape {present.shape}", room, "export the bundle again")
        self._buffer[self.length : end] = present
        self.length = end

    def _allocated(self, capacity: int) -> Floats:
        shape = self._shape
        return np.zeros((capacity, shape.layers, 2, 1, shape.kv_heads, shape.head_dim), dtype=np.float32)


class PromptInputs(NamedTuple):
    """A whole prompt, ready for the decoder."""

    embeds: Floats
    """(1, S, D) float32: text rows and visual rows juxtaposed."""
    positions: Ints
    """(3, 1, S) int64 M-RoPE positions: time, height, width."""
    next_position: int
    """Position of the first generated token, the same on all three axes."""


class Step(NamedTuple):
    """One generated token."""

    number: int
    """0 for the first token after the prompt."""
    token: int
    """The chosen id."""
    logits: Floats
    """(V,) float32 that it was chosen from; may be overwritten after the next step."""


def causal_mask(num_new: int, num_past: int) -> Floats:
    """Return the additive mask (1, 1, S, P + S): a new position sees all the past, itself and the new ones before."""
    mask = np.zeros((num_new, num_past + num_new), dtype=np.float32)
    mask[:, num_past:] = np.triu(np.full((num_new, num_new), DROP, dtype=np.float32), k=1)
    return mask[None, None]


def greedy_token(logits: Floats) -> int:
    """Return the id of the largest of (V,) logits, the lowest id on a tie; EngineError when one is not a number."""
    token = int(np.argmax(logits))
    # argmax returns the first NaN when there is one, so looking at the winner finds every NaN.
    if not np.isfinite(logits[token]):
        raise EngineError("a logit that is not finite", "finite logits", "check the bundle with its parity report")
    return token


class Decoder:
    """Greedy generation over one engine; one prompt at a time.

    `embed` turns token ids (S,) into rows (S, D) float32.
    """

    def __init__(self, engine: Engine, shape: CacheShape, embed: Callable[[Ints], Floats]) -> None:
        """Keep the engine; the cache is allocated at the first prompt."""
        self._engine = engine
        self._embed = embed
        self._cache = KVCache(shape, 0)
        self._next_position = 0
        self._logits: Floats | None = None

    def prefill(self, prompt: PromptInputs, max_new_tokens: int) -> Decoded:
        """Read the whole prompt in one pass and keep its keys, values and last logits."""
        num_tokens = prompt.embeds.shape[1]
        self._cache.reset(num_tokens + max_new_tokens)
        self._next_position = prompt.next_position
        return self._advance(prompt.embeds, prompt.positions)

    def steps(
        self, end_tokens: frozenset[int], max_new_tokens: int, choose: Callable[[Floats], int] = greedy_token
    ) -> Iterator[Step]:
        """Yield the tokens after `prefill`, the end token included, at most `max_new_tokens`.

        `choose` picks a token from (V,) logits; plain greedy unless told otherwise.

        The caller stops earlier by no longer asking. A pass of the decoder runs only when one more token is wanted.
        """
        for number in range(max_new_tokens):
            logits = self._last_logits()
            step = Step(number, choose(logits), logits)
            yield step
            if step.token in end_tokens or number + 1 == max_new_tokens:
                return
            self._append_token(step.token)

    def _append_token(self, token: int) -> None:
        positions = np.full((3, 1, 1), self._next_position, dtype=np.int64)
        self._next_position += 1
        self._advance(self._embed(np.array([token], dtype=np.int64))[None], positions)

    def _advance(self, embeds: Floats, positions: Ints) -> Decoded:
        num_new = embeds.shape[1]
        rows = np.array([num_new - 1], dtype=np.int64)
        mask = causal_mask(num_new, self._cache.length)
        decoded = self._engine.decode(embeds, positions, mask, self._cache.past, rows)
        self._cache.append(decoded.present)
        self._logits = decoded.logits[0, 0]
        return decoded

    def _last_logits(self) -> Floats:
        if self._logits is None:
            raise RuntimeError("steps() was called before prefill()")
        return self._logits
