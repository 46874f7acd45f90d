"""From logits to a finished reply: greedy tokens, what becomes known on the way, and why it ended.

Knows the ways a reply ends. What the text means is read by `protocol.reply`, as it arrives; how tokens are guessed
ahead is in `drafts`, and changes no reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from judo_edge.core import CellMask, Decision, EventKind, Floats
from judo_edge.protocol.reply import ReplyEvent, ReplyStream
from judo_edge.runtime.decoder import Decoder, Step, greedy_token, no_draft
from judo_edge.runtime.drafts.drafter import Drafter
from judo_edge.runtime.margins import MASK_MARGIN, MarginReader
from judo_edge.runtime.tokenizer import Tokenizer

NUM_CANDIDATES = 256
"""Tokens that are tried, best first, when the greedy one spoils a mask: digits and marks are among the first."""


class Ending(str, Enum):
    """Why a reply ended."""

    END_TOKEN = "end token"
    CAP = "cap on new tokens"
    USELESS = "the mask repeats itself or is broken"
    UNASKED = "the reason was not asked for"


class Reasoning(str, Enum):
    """For which parts the model is let write its reason and answer behind the mask."""

    ALWAYS = "always"
    NOK_ONLY = "nok-only"
    ON_DEMAND = "on-demand"

    def is_asked(self, mask: CellMask) -> bool:
        """Tell whether the reply goes on behind this mask."""
        return self is Reasoning.ALWAYS or (self is Reasoning.NOK_ONLY and len(mask) > 0)


Tell = Callable[[EventKind, Decision | CellMask | str | tuple[tuple[int, int], ...]], None]
"""Is told what becomes known, as it does."""
_KINDS = {"cells": EventKind.CELLS, "mask": EventKind.MASK, "think": EventKind.REASON, "answer": EventKind.ANSWER}


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


class Writer:
    """Writes replies, one for each prompt that the decoder has read."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, limits: Limits, drafter: Drafter | None = None) -> None:
        """Write greedily; a `drafter` makes it faster and changes no token."""
        self._decoder, self._tokenizer, self._limits, self._drafter = decoder, tokenizer, limits, drafter

    def write(
        self, margins: MarginReader, stream: ReplyStream, tell: Tell, reasoning: Reasoning = Reasoning.ALWAYS
    ) -> Generation:
        """Write the reply to the prompt that was read: greedy, a slip inside a mask mended by `MaskGuard`.

        `stream` watches for a mask that loops or cannot become valid: generating on would only cost time.
        """
        ids: list[int] = []
        ending = Ending.CAP
        guard = MaskGuard(self._tokenizer, stream)
        for step in self._steps(guard):
            margins.observe(step)
            ids.append(step.token)
            if self._drafter:
                self._drafter.observe(step.token)
            events = self._heard(step, margins, stream, tell)
            if (ended := self._ended(step, stream, events, reasoning)) is not None:
                ending = ended
                break
        text = self._tokenizer.text_from_ids([token for token in ids if token not in self._limits.end_tokens])
        return Generation(tuple(ids), text, margins.margins, ending, guard.num_held)

    def _steps(self, guard: MaskGuard) -> Iterator[Step]:
        choose = guard.choose if self._limits.is_guarded else greedy_token
        draft = self._drafter.next_draft if self._drafter else no_draft
        return self._decoder.steps(self._limits.end_tokens, self._limits.max_new_tokens, choose, draft)

    def _heard(self, step: Step, margins: MarginReader, stream: ReplyStream, tell: Tell) -> list[ReplyEvent]:
        """Read the token's text and tell what it settles."""
        if margins.is_first_sight:
            is_defect = margins.margins[MASK_MARGIN] > 0
            tell(EventKind.EARLY_VERDICT, Decision.NOK if is_defect else Decision.OK)
        if step.token in self._limits.end_tokens:
            return []
        events = stream.feed(self._tokenizer.piece(step.token))
        for event in events:
            tell(_KINDS[event.kind], event.value)
        return events

    def _ended(self, step: Step, stream: ReplyStream, events: list[ReplyEvent], reasoning: Reasoning) -> Ending | None:
        if step.token in self._limits.end_tokens:
            return Ending.END_TOKEN
        if self._limits.is_guarded and stream.should_stop:
            return Ending.USELESS
        masks = [event.value for event in events if isinstance(event.value, CellMask)]
        return Ending.UNASKED if masks and not reasoning.is_asked(masks[0]) else None
