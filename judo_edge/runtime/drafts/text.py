"""Text of a draft to token ids, in the context of what is written: vocabularies merge across the seam."""

from __future__ import annotations

from functools import lru_cache

from judo_edge.runtime.drafts.base import Writing
from judo_edge.runtime.tokenizer import Tokenizer


class TextDrafts:
    """Tokenizes what may follow."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Use the bundle's own tokenizer."""
        self._tokenizer = tokenizer
        self._encoded = lru_cache(maxsize=256)(tokenizer.ids_and_starts)

    def text_of(self, ids: tuple[int, ...]) -> str:
        """Return the text of drafted ids, token by token as the reply's own text is read."""
        return "".join(self._tokenizer.piece(token) for token in ids)

    def ids_behind(self, writing: Writing, text: str) -> list[int]:
        """Return the ids of `text` behind the writing, as the whole would be tokenized.

        Where a token of the whole would span the seam, the text is tokenized by itself.
        """
        ids, starts = self._encoded(writing.text + text)
        seam = len(writing.text)
        count = len(writing.ids)
        if ids[:count] == writing.ids:
            return list(ids[count:])
        if seam in starts:
            return list(ids[starts.index(seam) :])
        return list(self._encoded(text)[0])
