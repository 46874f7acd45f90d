"""Drafts from replies: those that the model wrote before about a part, and the spans that the format forces.

Both are n-gram tables; the first learns from finished replies, the second is made from replies that differ in all that
the format leaves open.
"""

from __future__ import annotations

from collections.abc import Iterable

from judo_edge.core import CellMask
from judo_edge.protocol.reply import text_from_parts
from judo_edge.runtime.drafts.base import Draft, Writing
from judo_edge.runtime.drafts.memory import ReplyMemory
from judo_edge.runtime.drafts.ngrams import NgramTable
from judo_edge.runtime.tokenizer import Tokenizer

FORCED = 0.99
"""Confidence in a token that the format leaves no choice for."""


class HistorySource:
    """Guesses that a part's next reply goes on as its earlier ones did."""

    name = "history"

    def __init__(self, memory: ReplyMemory) -> None:
        """Begin each part with what is remembered of it."""
        self._memory = memory
        self._tables: dict[str, NgramTable] = {}

    def propose(self, writing: Writing, room: int) -> Draft:
        """Continue by the longest context that earlier replies share with this one."""
        return self._table(writing.evidence.part).continuation(writing.ids, room)

    def learn(self, writing: Writing) -> None:
        """Remember a finished reply."""
        self._table(writing.evidence.part).add(writing.ids)
        self._memory.keep(writing.evidence.part, writing.ids)

    def _table(self, part: str) -> NgramTable:
        if part not in self._tables:
            self._tables[part] = NgramTable()
            for ids in self._memory.opened(part):
                self._tables[part].add(ids)
        return self._tables[part]


class FormatSource:
    """Guesses the tags and marks between which the model has no choice."""

    name = "format"

    def __init__(self, tokenizer: Tokenizer, end_token: int, letters: tuple[str, ...], grid: tuple[int, int]) -> None:
        """Tokenize replies that differ in mask, reason and letter; what they share is the format's."""
        self._table = NgramTable()
        for mask, reason, letter in _varied(letters, grid):
            self._table.add([*tokenizer.ids_from_text(text_from_parts(mask, reason, letter)).tolist(), end_token])

    def propose(self, writing: Writing, room: int) -> Draft:
        """Guess the tokens that every such reply has in this context."""
        found = self._table.certain(writing.ids, room)
        return Draft(found, (FORCED,) * len(found))

    def learn(self, writing: Writing) -> None:
        """Keep nothing: the format does not change."""


def _varied(letters: tuple[str, ...], grid: tuple[int, int]) -> Iterable[tuple[CellMask, str, str]]:
    """Yield masks of no cell, a cell, a run and several rows, each with other words and another letter."""
    rows, cols = grid
    one, run = [(1, 1)], [(2, c) for c in range(2, min(cols, 5) + 1)]
    corner = [(rows, cols), (rows - 1, cols), (3, 3)]
    reasons = ("The first", "A second", "No third", "It is", "Some", "We see", "There", "Query")
    for number, cells in enumerate(([], one, run, [*one, *run], corner, [(4, 4), (5, 4)], [], [(6, 2)])):
        mask = CellMask.of(rows, cols, [(r, c) for r, c in cells if 1 <= r <= rows and c <= cols])
        yield mask, f"{reasons[number]} {'x' * (number + 1)}{'.' * (number % 2)}", letters[number % len(letters)]
