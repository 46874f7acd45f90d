"""Guesses of what a reply will say, checked in the passes that run anyway. See `drafter` for how they compose."""

from __future__ import annotations

from judo_edge.runtime.drafts.base import Draft, DraftSource, Evidence, Writing
from judo_edge.runtime.drafts.drafter import Attempt, Drafter
from judo_edge.runtime.drafts.masks import MaskSource
from judo_edge.runtime.drafts.memory import ReplyMemory
from judo_edge.runtime.drafts.replies import FormatSource, HistorySource
from judo_edge.runtime.drafts.text import TextDrafts
from judo_edge.runtime.tokenizer import Tokenizer

__all__ = ["Attempt", "Draft", "DraftSource", "Drafter", "Evidence", "ReplyMemory", "Writing", "drafter_from_tokenizer"]


def drafter_from_tokenizer(
    tokenizer: Tokenizer,
    end_tokens: frozenset[int],
    letters: tuple[str, ...],
    grid: tuple[int, int],
    memory: ReplyMemory,
) -> Drafter:
    """Return a drafter with all sources: the mask from the evidence, earlier replies, the format."""
    texts = TextDrafts(tokenizer)
    sources: list[DraftSource] = [
        HistorySource(memory, texts),
        MaskSource(texts),
        FormatSource(tokenizer, min(end_tokens), letters, grid),
    ]
    return Drafter(sources, texts, end_tokens)
