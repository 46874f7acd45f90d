"""Several prompts read in one pass of the decoder, each with a draft of its own; then each reply goes on alone.

The weights are read once for all prompts, and on a line of good parts the drafts are right: then the one pass is all.
Drafts are padded to the longest; what is padded is never looked at. Knows nothing of photos and replies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from judo_edge.core import Floats, Ints
from judo_edge.runtime.decoder import FirstPass, Pass, PromptInputs, text_positions
from judo_edge.runtime.engines.base import Decoded, Engine, KeysValues


class Ask(NamedTuple):
    """One prompt of a batch."""

    prompt: PromptInputs
    draft: tuple[int, ...] = ()
    prefix: KeysValues | None = None
    """(P, L, 2, 1, Hkv, hd) of the prompt's first positions, which are then not read."""


def read_together(
    engine: Engine, embed: Callable[[Ints], Floats], asks: Sequence[Ask], max_new_tokens: int
) -> list[FirstPass]:
    """Read prompts of one length, whose prefixes are of one length too, with their drafts; see `Decoder.take_up`.

    `embed` turns ids (S,) into rows (S, D). Raises EngineError, also for more prompts than the engine reads together.
    """
    length = asks[0].prompt.embeds.shape[1]
    room = length + max_new_tokens
    started = time.perf_counter()
    engine.start(room, _prefix(asks), len(asks))
    known, num_drafted = engine.length, max(len(ask.draft) for ask in asks)
    embeds = np.concatenate([_rows(ask, embed, num_drafted) for ask in asks])[:, known:]
    positions = np.concatenate([_positions(ask, num_drafted) for ask in asks], axis=1)[..., known:]
    rows = np.arange(length - 1 - known, embeds.shape[1], dtype=np.int64)
    decoded = engine.advance(embeds, positions, rows)
    run = Pass("prefill", embeds.shape[1], 0, 0, (time.perf_counter() - started) / len(asks), len(asks))
    kept = _Kept(engine, room)
    keeps = [partial(kept.bring, item) if len(asks) > 1 else engine.rewind for item in range(len(asks))]
    return [_first(ask, item, decoded, run, keeps[item]) for item, ask in enumerate(asks)]


class _Kept:
    """The batch's cache: in the engine until the first prompt goes on alone, then a copy."""

    def __init__(self, engine: Engine, room: int) -> None:
        self._engine, self._room = engine, room
        self._copy: KeysValues | None = None

    def bring(self, item: int, length: int) -> None:
        """Leave one prompt's first positions in the engine, and no others."""
        if self._copy is None:
            self._copy = self._engine.keys_values(0, self._engine.length)
        self._engine.start(self._room, self._copy[:length, :, :, item : item + 1])


def _first(ask: Ask, item: int, decoded: Decoded, run: Pass, keep: Callable[[int], None]) -> FirstPass:
    """Take one prompt's part of the pass, copied: another reply's passes come before this one's are read."""
    num_drafted = len(ask.draft)
    length = ask.prompt.embeds.shape[1]
    num_read = length - (0 if ask.prefix is None else len(ask.prefix)) + num_drafted
    return FirstPass(
        rows=decoded.logits[item, : num_drafted + 1].copy(),
        draft=ask.draft,
        prompt_length=length,
        next_position=ask.prompt.next_position,
        run=run._replace(num_drafted=num_drafted),
        cells=None if decoded.cells is None else decoded.cells[item, :num_read].copy(),
        keep=keep,
    )


def _prefix(asks: Sequence[Ask]) -> KeysValues | None:
    """Return one prefix where all have the same, else all side by side."""
    prefixes = [ask.prefix for ask in asks if ask.prefix is not None]
    if not prefixes:
        return None
    if all(prefix is prefixes[0] for prefix in prefixes):
        return prefixes[0]
    return np.concatenate(prefixes, axis=3)


def _rows(ask: Ask, embed: Callable[[Ints], Floats], num_drafted: int) -> Floats:
    """Return (1, S, D) of the prompt and its draft, padded by the first token of the vocabulary."""
    ids = np.zeros(num_drafted, dtype=np.int64)
    ids[: len(ask.draft)] = ask.draft
    return np.concatenate([ask.prompt.embeds, embed(ids)[None]], axis=1)


def _positions(ask: Ask, num_drafted: int) -> Ints:
    return np.concatenate([ask.prompt.positions, text_positions(ask.prompt.next_position, num_drafted)], axis=2)
