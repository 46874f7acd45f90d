"""The decoder's loop: plain greedy generation over an engine, which keeps the keys and values.

Knows positions and stop conditions; knows nothing of tokens' meaning, photos or replies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError
from judo_edge.runtime.engines.base import Decoded, Engine


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

    def __init__(self, engine: Engine, embed: Callable[[Ints], Floats], prefix: Floats | None = None) -> None:
        """Keep the engine; the cache is made at the first prompt.

        `prefix` (P, L, 2, 1, Hkv, hd) float32 are the keys and values of the first P positions of every prompt, which
        are then not computed again.
        """
        self._engine = engine
        self._embed = embed
        self._prefix = prefix
        self._next_position = 0
        self._logits: Floats | None = None

    def prefill(self, prompt: PromptInputs, max_new_tokens: int) -> Decoded:
        """Read the prompt in one pass and keep its last logits; a known prefix is not read again.

        `cells` are then those of the positions behind the prefix: count them from the end.
        """
        self._engine.start(prompt.embeds.shape[1] + max_new_tokens, self._prefix)
        self._next_position = prompt.next_position
        known = self._engine.length
        return self._advance(prompt.embeds[:, known:], prompt.positions[:, :, known:])

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
        rows = np.array([embeds.shape[1] - 1], dtype=np.int64)
        decoded = self._engine.advance(embeds, positions, rows)
        self._logits = decoded.logits[0, 0]
        return decoded

    def _last_logits(self) -> Floats:
        if self._logits is None:
            raise RuntimeError("steps() was called before prefill()")
        return self._logits
