"""From logits to a finished reply: plain greedy tokens, the margins on the way, and why it ended.

Knows the ways a reply ends. What the text means is read by `protocol.reply`, as it arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from judo_edge.core import Floats
from judo_edge.protocol.reply import ReplyStream
from judo_edge.runtime.decoder import Decoder, greedy_token
from judo_edge.runtime.margins import MarginReader
from judo_edge.runtime.tokenizer import Tokenizer

NUM_CANDIDATES = 256
"""Tokens that are tried, best first, when the greedy one spoils a mask: digits and marks are among the first."""


class Ending(str, Enum):
    """Why a reply ended."""

    END_TOKEN = "end token"
    CAP = "cap on new tokens"
    USELESS = "the mask repeats itself or is broken"


@dataclass(frozen=True)
class Generation:
    """One reply as generated."""

    ids: tuple[int, ...]
    """All generated ids, the end token included."""
    text: str
    """Their text, without the end token."""
    margins: Mapping[str, float]
    """Logits; see `margins`."""
    ending: Ending
    num_held: int = 0
    """Tokens of the mask that the grammar chose in place of the greedy one."""


@dataclass(frozen=True)
class Limits:
    """When a reply ends at the latest."""

    end_tokens: frozenset[int]
    max_new_tokens: int
    is_guarded: bool = True
    """Whether `MaskGuard` mends slips inside a mask and a useless one ends the reply; if not, it is plain greedy."""


class MaskGuard:
    """Greedy, but inside a mask that already holds a cell a token that spoils it gives way to the best that fits.

    A valid reply is never changed. A mask without a cell is left alone, so the guard cannot make a part good.
    """

    def __init__(self, tokenizer: Tokenizer, stream: ReplyStream) -> None:
        """Watch the stream that reads the reply."""
        self._tokenizer, self._stream = tokenizer, stream
        self.num_held = 0

    def choose(self, logits: Floats) -> int:
        """Return the next token from (V,) logits."""
        token = greedy_token(logits)
        if not self._spoils(token):
            return token
        for candidate in np.argsort(-logits, kind="stable")[:NUM_CANDIDATES]:
            if not self._spoils(int(candidate)):
                self.num_held += 1
                return int(candidate)
        return token

    def _spoils(self, token: int) -> bool:
        return self._stream.would_spoil_mask(self._tokenizer.piece(token))


def generate(
    decoder: Decoder, tokenizer: Tokenizer, margins: MarginReader, stream: ReplyStream, limits: Limits
) -> Generation:
    """Write the reply to the prompt that the decoder has read: greedy, a slip inside a mask mended by `MaskGuard`.

    `stream` watches for a mask that loops or cannot become valid: generating on would only cost time.
    """
    ids: list[int] = []
    ending = Ending.CAP
    guard = MaskGuard(tokenizer, stream)
    choose = guard.choose if limits.is_guarded else greedy_token
    for step in decoder.steps(limits.end_tokens, limits.max_new_tokens, choose):
        margins.observe(step)
        ids.append(step.token)
        if step.token in limits.end_tokens:
            ending = Ending.END_TOKEN
            break
        stream.feed(tokenizer.piece(step.token))
        if limits.is_guarded and stream.should_stop:
            ending = Ending.USELESS
            break
    text = tokenizer.text_from_ids([token for token in ids if token not in limits.end_tokens])
    return Generation(tuple(ids), text, margins.margins, ending, guard.num_held)
