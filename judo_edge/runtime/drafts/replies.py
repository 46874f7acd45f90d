"""Drafts from replies: those that the model wrote before about a part, and the spans that the format forces.

Both are n-gram tables; the first learns from finished replies, the second is made from replies that differ in all that
the format leaves open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from judo_edge.core import CellMask
from judo_edge.protocol.reply import text_from_parts
from judo_edge.runtime.drafts.base import Draft, Writing
from judo_edge.runtime.drafts.memory import ReplyMemory
from judo_edge.runtime.drafts.ngrams import NgramTable
from judo_edge.runtime.drafts.text import TextDrafts
from judo_edge.runtime.tokenizer import Tokenizer

FORCED = 0.99
"""Confidence in a token that the format leaves no choice for."""


class HistorySource:
    """Guesses that a reply goes on as earlier ones did: the part's own, else those of all parts.

    Once its mask has begun, a reply goes on like those whose mask was empty too, or was not.
    """

    name = "history"

    def __init__(self, memory: ReplyMemory, texts: TextDrafts) -> None:
        """Begin each part with what is remembered of it."""
        self._memory, self._texts = memory, texts
        self._tables: dict[str, _Tables] = {}
        self._all = _Tables()

    def propose(self, writing: Writing, room: int) -> Draft:
        """Continue by the longest context that earlier replies share with this one."""
        own, kind = self._of(writing.evidence.part), _kind(writing.text)
        return own[kind].continuation(writing.ids, room) or self._all[kind].continuation(writing.ids, room)

    def learn(self, writing: Writing) -> None:
        """Remember a finished reply."""
        for tables in (self._of(writing.evidence.part), self._all):
            tables.add(writing.ids, _kind(writing.text))
        self._memory.keep(writing.evidence.part, writing.ids)

    def _of(self, part: str) -> _Tables:
        if part not in self._tables:
            self._tables[part] = _Tables()
            for ids in self._memory.opened(part):
                self._tables[part].add(ids, _kind(self._texts.text_of(ids)))
        return self._tables[part]


class _Tables(dict[str, NgramTable]):
    """What followed in replies of each kind, and in all."""

    def __init__(self) -> None:
        super().__init__({kind: NgramTable() for kind in (_OPEN, _EMPTY, _MARKED)})

    def add(self, ids: Sequence[int], kind: str) -> None:
        for each in {_OPEN, kind}:
            self[each].add(ids)


_OPEN, _EMPTY, _MARKED = "open", "empty", "marked"


def _kind(text: str) -> str:
    """Tell what a reply's mask is: not begun, empty, or with cells."""
    _, _, body = text.partition("<seg>")
    begun = body.lstrip()[:1]
    return _OPEN if not begun else _MARKED if begun == "(" else _EMPTY


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
        yield mask, f"{reasons[number]} {'x' * (number + 1)}{'.' * (number % 2)}", letters[number // 2 % len(letters)]
