"""Drafts of the mask text from cells that stand out: written canonically, taken up again wherever the model left it.

Knows the grammar's text, not its tokens: `text` turns it into ids in context.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from judo_edge.core import CellMask
from judo_edge.protocol.seg import Cell, seg_from_mask
from judo_edge.runtime.drafts.base import Draft, Writing
from judo_edge.runtime.drafts.text import TextDrafts

_OPEN, _CLOSE = "<seg>", "</seg>\n<think>"
"""With the tag that follows: a vocabulary may merge the line's end with the bracket before it."""
_NUMBERS = re.compile(r"\d+")
CONFIDENCE = 0.9
"""Of a token, before the source's own record says better."""


class MaskSource:
    """Guesses the mask from `Evidence.marked`."""

    name = "mask"

    def __init__(self, texts: TextDrafts) -> None:
        """Write through `texts`."""
        self._texts = texts

    def propose(self, writing: Writing, room: int) -> Draft:
        """Guess the rest of the mask, its tags included."""
        marked = writing.evidence.marked
        if marked is None or "</seg>" in writing.text:
            return Draft()
        rest = _rest_of_reply(marked, writing.text)
        if rest is None:
            return Draft()
        ids = self._texts.ids_behind(writing, rest)[:room]
        return Draft(tuple(ids), (CONFIDENCE,) * len(ids))

    def learn(self, writing: Writing) -> None:
        """Keep nothing: the evidence of a frame is its own."""


def _rest_of_reply(marked: CellMask, text: str) -> str | None:
    """Return what follows a reply's beginning up to the end of its mask; None if unclear."""
    _, opened, body = text.partition(_OPEN)
    if not opened:
        whole = f"{_OPEN} {seg_from_mask(marked)} {_CLOSE}"
        return whole[len(text) :] if whole.startswith(text) else None
    _, closing, begun = body.partition("<")
    if closing:
        return _CLOSE[len(begun) + 1 :] if _CLOSE.startswith(f"<{begun}") else None
    rest = mask_continuation(marked, body)
    return None if rest is None else f"{rest} {_CLOSE}"


def mask_continuation(marked: CellMask, body: str) -> str | None:
    """Return what follows `body`, the beginning of a mask's text, if the mask is to be like `marked`; None if unclear.

    Items behind the last written one follow as they are. An item that was begun otherwise than foreseen is finished
    from the nearest row's runs, keeping what is written of it.
    """
    whole = f" {seg_from_mask(marked)}"
    if whole.startswith(body):
        return whole[len(body) :]
    done, begun, gap = _parted(body)
    if begun and not begun.startswith("("):
        return None
    last = _last_cell(done)
    for item in (*_items_behind(marked, last), *_adapted(marked, begun)):
        if item.startswith(begun):
            rest = [item[len(begun) :], *_items_behind(marked, _last_cell(item))]
            return gap + " , ".join(rest)
    return None


def _parted(body: str) -> tuple[str, str, str]:
    """Return the finished items, the item begun behind their comma, and the blank missing before it."""
    done, comma, begun = body.rpartition(" ,") if body.rstrip().endswith(" ,") else body.rpartition(" , ")
    return done if comma else "", begun.lstrip(), " " if comma == " ," and not begun else ""


def _last_cell(items: str) -> Cell:
    numbers = [int(digits) for digits in _NUMBERS.findall(items)][-2:]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _items_behind(marked: CellMask, last: Cell) -> list[str]:
    """Return the canonical items that begin behind a cell, without the rest of that cell's own run."""
    row, col = last
    while (row, col + 1) in marked.cells:
        col += 1
    kept = [cell for cell in marked.cells if cell > (row, col)]
    return seg_from_mask(CellMask.of(marked.rows, marked.cols, kept)).split(" , ") if kept else []


def _adapted(marked: CellMask, begun: str) -> Iterator[str]:
    """Yield items in the row that was begun: the runs of the nearest rows, moved there, from the column begun."""
    numbers = [int(digits) for digits in _NUMBERS.findall(begun)]
    if not numbers:
        return
    row = numbers[0]
    ends = [run for near in _nearest_rows(marked, row) for run in _runs_of(marked, near)]
    if len(numbers) == 1:
        yield from (_item(row, first, last) for first, last in ends)
        return
    first = numbers[1]
    yield from (_item(row, first, last) for _, last in ends if last >= first)
    yield f"({row},{first})"
    if len(numbers) > 3:
        yield _item(row, numbers[1], numbers[3])


def _nearest_rows(marked: CellMask, row: int) -> list[int]:
    return sorted({r for r, _ in marked.cells}, key=lambda r: (abs(r - row), r))


def _runs_of(marked: CellMask, row: int) -> list[tuple[int, int]]:
    """Return first and last column of each run of a row."""
    cols = sorted(c for r, c in marked.cells if r == row)
    firsts = [c for c in cols if c - 1 not in cols]
    lasts = [c for c in cols if c + 1 not in cols]
    return list(zip(firsts, lasts, strict=True))


def _item(row: int, first: int, last: int) -> str:
    return f"({row},{first})" if last <= first else f"({row},{first})-({row},{last})"
