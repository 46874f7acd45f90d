"""From logits to a finished reply: plain greedy tokens, the margins on the way, and why it ended.

Knows the ways a reply ends. What the text means is read by `protocol.reply`, as it arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from judo_edge.protocol.reply import ReplyStream
from judo_edge.runtime.decoder import Decoder
from judo_edge.runtime.margins import MarginReader
from judo_edge.runtime.tokenizer import Tokenizer


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


@dataclass(frozen=True)
class Limits:
    """When a reply ends at the latest."""

    end_tokens: frozenset[int]
    max_new_tokens: int


def generate(
    decoder: Decoder, tokenizer: Tokenizer, margins: MarginReader, stream: ReplyStream, limits: Limits
) -> Generation:
    """Write the reply to the prompt that the decoder has read; greedy, so equal input gives equal ids.

    `stream` watches for a mask that loops or cannot become valid: generating on would only cost time.
    """
    ids: list[int] = []
    ending = Ending.CAP
    for step in decoder.steps(limits.end_tokens, limits.max_new_tokens):
        margins.observe(step)
        ids.append(step.token)
        if step.token in limits.end_tokens:
            ending = Ending.END_TOKEN
            break
        stream.feed(tokenizer.piece(step.token))
        if stream.should_stop:
            ending = Ending.USELESS
            break
    text = tokenizer.text_from_ids([token for token in ids if token not in limits.end_tokens])
    return Generation(tuple(ids), text, margins.margins, ending)
