"""Text to token ids and back, by the `tokenizers` library alone. Knows no prompt and no model.

It also finds, in the bundle's own vocabulary, the tokens between which the model decides: the first mask token and the
letter of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from judo_edge.core import Ints
from judo_edge.errors import BundleError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RawTokenizer


class Tokenizer:
    """A tokenizer.json, without templates: what is written is what is encoded."""

    def __init__(self, raw: RawTokenizer) -> None:
        """Wrap a loaded tokenizer."""
        self._raw = raw
        self.piece = lru_cache(maxsize=4096)(self._piece)

    @classmethod
    def open(cls, path: Path) -> Tokenizer:
        """Load a tokenizer.json; BundleError when it cannot be read."""
        from tokenizers import Tokenizer as RawTokenizer

        try:
            raw = RawTokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise BundleError(f"{path.name}: {error}", "a tokenizer.json", "export the bundle again") from error
        raw.no_padding()
        raw.no_truncation()
        return cls(raw)

    def ids_from_text(self, text: str) -> Ints:
        """Return the ids (S,) int64 of a text; special tokens written in it count as such."""
        return np.array(self._raw.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def ids_and_starts(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids of a text and the character at which each begins."""
        encoding = self._raw.encode(text, add_special_tokens=False)
        return list(encoding.ids), [int(start) for start, _ in encoding.offsets]

    def text_from_ids(self, ids: Sequence[int]) -> str:
        """Return the text of ids as written, special tokens included."""
        return str(self._raw.decode(list(ids), skip_special_tokens=False))

    def _piece(self, token: int) -> str:
        """Return the text of a single id; bytes that are no whole character become U+FFFD."""
        return str(self._raw.decode([token], skip_special_tokens=False))
