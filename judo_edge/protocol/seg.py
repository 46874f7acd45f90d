"""The mask grammar inside `<seg>`: writer, strict reader, lenient reader, incremental reader.

A mask is `None` or items joined by ` , `; an item is a cell `(r,c)` or a run `(r,c1)-(r,c2)` of one row, 1-based.
Knows nothing of the tags around it. The strict and the incremental reader accept the same texts: what JUDO's reward
accepts in well-formed parentheses (any spacing, any order, empty items), but never a blank text, which is no answer.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

from judo_edge.core import CellMask

Cell = tuple[int, int]
"""1-based (row, column)."""

_CELL = r"\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)"
_ITEM = re.compile(rf"{_CELL}(?:\s*-\s*{_CELL})?")
_ITEM_TEXTS = re.compile(r"(?:\([^()]*\)|[^,])+")

_OPEN, _CLOSE, _DASH = r"[(\[{]{0,3}", r"[)\]}]{0,3}", "[-~\u2010-\u2015]{1,3}"
_LOOSE_ITEM = re.compile(
    rf"{_OPEN}(?<![0-9])(?P<r1>[0-9]{{1,6}})[,;:](?P<c1>[0-9]{{1,6}})(?![0-9]){_CLOSE}(?:{_DASH}(?:"
    rf"{_OPEN}(?P<r2>[0-9]{{1,6}})[,;:](?P<c2>[0-9]{{1,6}})(?![0-9]){_CLOSE}|(?P<c3>[0-9]{{1,6}})(?![0-9]){_CLOSE}))?"
)
_MAX_NUMBER = 10**6
"""Numbers from here on are not told apart; all are far outside any grid."""


class SegSyntaxError(ValueError):
    """The text inside `<seg>` is not a mask; the message names the item and what is wrong with it."""


def seg_from_mask(mask: CellMask) -> str:
    """Write a mask canonically: rows ascending, maximal runs, ` , ` between items, `None` when empty."""
    return " , ".join(_item_from_run(*run) for run in _runs(mask)) or "None"


def mask_from_seg_strict(text: str, rows: int, cols: int) -> CellMask:
    """Read the text inside `<seg>`; SegSyntaxError when any item is bad, then nothing of it is used."""
    if text.strip().lower() == "none":
        return CellMask(rows, cols)
    items = [item.strip() for item in _ITEM_TEXTS.findall(text) if item.strip()]
    if not items:
        raise SegSyntaxError("neither a cell nor None")
    return CellMask.of(rows, cols, (cell for item in items for cell in _cells_from_item(item, rows, cols)))


def mask_from_seg_lenient(text: str, rows: int, cols: int) -> tuple[CellMask, tuple[str, ...]]:
    """Read what can be read, never failing, and say in words what was repaired; no repairs means strictly valid.

    Any brackets or none, any dash, swapped ends, a run cut off or with one number, and a missing comma are read. A run
    over several rows is read as the box between its ends. What lies outside the grid is cut off, never moved inside.
    The rest is dropped. An empty mask with repairs does not say that the part is good.
    """
    try:
        return mask_from_seg_strict(text, rows, cols), ()
    except SegSyntaxError as error:
        cells, repairs = _repaired(text, rows, cols)
        return CellMask.of(rows, cols, cells), tuple(repairs or [str(error)])


PATIENCE = 3
"""Items without a new cell after which a mask counts as a loop; a reply that loops repeats itself for ever."""


class SegStream:
    """Reads the text inside `<seg>` as it arrives, in any pieces, and tells each cell as soon as it is certain.

    A later bad item makes the whole mask invalid, so told cells are provisional until `close`.
    """

    def __init__(self, rows: int, cols: int) -> None:
        """Start an empty mask of `rows` x `cols` cells."""
        self._rows, self._cols = rows, cols
        self._state, self._error = "blank", ""
        self._number, self._row = 0, 0
        self._start: Cell | None = None
        """First cell of the item being read, once closed by its parenthesis."""
        self._num_new, self._num_idle = 0, 0
        self._cells: set[Cell] = set()

    @property
    def cells(self) -> frozenset[Cell]:
        """Return the cells told so far."""
        return frozenset(self._cells)

    @property
    def is_broken(self) -> bool:
        """Tell whether the text can no longer become a mask, whatever follows."""
        return bool(self._error)

    @property
    def is_none(self) -> bool:
        """Tell whether the text so far says `None`."""
        return self._state == "none" and not self._error

    @property
    def is_closable(self) -> bool:
        """Tell whether the mask would be valid if it ended here."""
        ended = self._state in ("gap", "cell", "run") and bool(self._cells)
        return not self._error and (ended or self._state == "none")

    def copy(self) -> SegStream:
        """Return a stream in the same state that can be fed on its own."""
        other = copy.copy(self)
        other._cells = set(self._cells)
        return other

    @property
    def is_looping(self) -> bool:
        """Tell whether PATIENCE items brought no new cell: a reason to stop generating.

        Order alone is none: a mask in any order is valid, so stopping at it would spoil a good reply.
        """
        return self._num_idle >= PATIENCE

    def feed(self, text: str) -> list[Cell]:
        """Read the next piece; return the cells it settles, in the order written, each cell once."""
        new: list[Cell] = []
        for char in text:
            if self._error:
                break
            new += self._step("0" if "0" <= char <= "9" else " " if char.isspace() else char.lower(), char)
        return new

    def close(self) -> CellMask:
        """Return the mask of all that was fed; SegSyntaxError exactly where the strict reader raises it."""
        if self._error:
            raise SegSyntaxError(self._error)
        if self._state not in ("none", "gap", "cell", "run"):
            raise SegSyntaxError("neither a cell nor None" if self._state == "blank" else "ends inside an item")
        if self._state != "none" and not self._cells:
            raise SegSyntaxError("neither a cell nor None")
        return CellMask(self._rows, self._cols, self.cells)

    def _step(self, kind: str, char: str) -> list[Cell]:
        state, target = self._state, _NEXT.get((self._state, kind))
        if target is None:
            self._error = f"{char!r} does not belong there"
            return []
        self._state = target
        if kind == "0":
            known = self._number if state == target else 0
            self._number = min(known * 10 + int(char), _MAX_NUMBER)
            self._check_number(target, is_ended=False)
        elif target == "col?" and kind == ",":
            self._row = self._number
            self._check_number("row", is_ended=True)
        elif target == "gap" and kind == ",":
            self._num_idle += not self._num_new
            self._start, self._num_new = None, 0
        return self._end_cell() if target == "cell" and kind == ")" else []

    def _check_number(self, place: str, is_ended: bool) -> None:
        """Break the mask as soon as a number can no longer become one that fits its place."""
        high = self._rows if place == "row" else self._cols
        low = 1
        if self._start is not None:
            low = self._start[0 if place == "row" else 1]
            high = low if place == "row" else high
        if low <= self._number <= high or (not is_ended and _can_grow_into(self._number, low, high)):
            return
        if self._start is None:
            self._error = f"{place} {self._number} lies outside the {self._rows}x{self._cols} grid"
        else:
            self._error = f"a run from {self._start} cannot end at {place} {self._number}"

    def _end_cell(self) -> list[Cell]:
        cell = (self._row, self._number)
        start = self._start or cell
        if self._start is None:
            self._start = cell
        else:
            self._state = "run"
        try:
            told = _cells_from_run(start, cell, self._rows, self._cols)
        except SegSyntaxError as error:
            self._error = str(error)
            return []
        new = [cell for cell in told if cell not in self._cells]
        self._cells.update(new)
        self._num_new += len(new)
        return new


def _can_grow_into(number: int, low: int, high: int) -> bool:
    """Tell whether further digits can bring `number` between `low` and `high`."""
    if number == 0:
        return True
    first, last = number * 10, number * 10 + 9
    while first <= high:
        if last >= low:
            return True
        first, last = first * 10, last * 10 + 9
    return False


_NEXT = {
    ("blank", " "): "blank",
    ("blank", ","): "gap",
    ("blank", "("): "row?",
    ("blank", "n"): "n",
    ("n", "o"): "no",
    ("no", "n"): "non",
    ("non", "e"): "none",
    ("none", " "): "none",
    ("gap", " "): "gap",
    ("gap", ","): "gap",
    ("gap", "("): "row?",
    ("row?", " "): "row?",
    ("row?", "0"): "row",
    ("row", "0"): "row",
    ("row", " "): "row!",
    ("row", ","): "col?",
    ("row!", " "): "row!",
    ("row!", ","): "col?",
    ("col?", " "): "col?",
    ("col?", "0"): "col",
    ("col", "0"): "col",
    ("col", " "): "col!",
    ("col", ")"): "cell",
    ("col!", " "): "col!",
    ("col!", ")"): "cell",
    ("cell", " "): "cell",
    ("cell", ","): "gap",
    ("cell", "-"): "dash",
    ("dash", " "): "dash",
    ("dash", "("): "row?",
    ("run", " "): "run",
    ("run", ","): "gap",
}
"""The incremental grammar: (state, kind of character) to state; digits are "0", white space " ". A pair not listed is
an error. "row?" waits for digits, "row!" has seen a blank after them; "run" is a cell that ended a run."""


def _runs(mask: CellMask) -> Iterator[tuple[int, int, int]]:
    """Yield (row, first column, last column) of the maximal runs in reading order."""
    run: tuple[int, int, int] | None = None
    for row, col in sorted(mask.cells):
        if run and (row, col) == (run[0], run[2] + 1):
            run = (row, run[1], col)
            continue
        if run:
            yield run
        run = (row, col, col)
    if run:
        yield run


def _item_from_run(row: int, first: int, last: int) -> str:
    return f"({row},{first})" if first == last else f"({row},{first})-({row},{last})"


def _cells_from_item(item: str, rows: int, cols: int) -> list[Cell]:
    match = _ITEM.fullmatch(item)
    if not match:
        raise SegSyntaxError(f"{_shown(item)} is not a cell or a run")
    numbers = [_number(digits) for digits in match.groups() if digits is not None]
    return _cells_from_run((numbers[0], numbers[1]), (numbers[-2], numbers[-1]), rows, cols)


def _cells_from_run(start: Cell, end: Cell, rows: int, cols: int) -> list[Cell]:
    """Return the cells of one item; SegSyntaxError when it leaves the grid or its row, or runs backwards."""
    for row, col in (start, end):
        if not (1 <= row <= rows and 1 <= col <= cols):
            raise SegSyntaxError(f"({row},{col}) lies outside the {rows}x{cols} grid")
    (row, first), (last_row, last) = start, end
    if row != last_row or last < first:
        raise SegSyntaxError(f"({row},{first})-({last_row},{last}) is not a run along one row")
    return [(row, col) for col in range(first, last + 1)]


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return int(significant or 0) if len(significant) < 7 else _MAX_NUMBER


def _shown(text: str) -> str:
    return repr(text if len(text) <= 24 else f"{text[:21]}...")


def _repaired(text: str, rows: int, cols: int) -> tuple[set[Cell], list[str]]:
    compact = re.sub(r" ?([^\w ]) ?", r"\1", re.sub(r"\s+", " ", text)).strip()
    if re.fullmatch(r"\W*none\W*", compact, re.IGNORECASE):
        return set(), [f"read {_shown(compact)} as None"]
    cells: set[Cell] = set()
    repairs: list[str] = []
    end = 0
    for match in _LOOSE_ITEM.finditer(compact):
        repairs += _repairs_between(compact[end : match.start()], is_first=end == 0)
        repairs += _add_loose_item(cells, match, rows, cols)
        end = match.end()
    return cells, repairs + _repairs_between(compact[end:], is_first=True)


def _repairs_between(gap: str, is_first: bool) -> list[str]:
    if dropped := gap.strip(" ,"):
        return [f"dropped {_shown(dropped)}"]
    return [] if is_first or "," in gap else ["comma missing between items"]


def _add_loose_item(cells: set[Cell], match: re.Match[str], rows: int, cols: int) -> list[str]:
    """Add what a loosely written item means to `cells`; return what had to be repaired."""
    raw = match.group()
    try:
        cells.update(_cells_from_item(raw, rows, cols))
        return []
    except SegSyntaxError:
        box = _box_from_loose_item(match, rows, cols)
    if not box:
        return [f"dropped {_shown(raw)}: outside the {rows}x{cols} grid"]
    cells.update(box)
    return [f"read {_shown(raw)} as {_shown(seg_from_mask(CellMask.of(rows, cols, box)))}"]


def _box_from_loose_item(match: re.Match[str], rows: int, cols: int) -> set[Cell]:
    numbers = {key: int(digits) for key, digits in match.groupdict().items() if digits}
    row, col = numbers["r1"], numbers["c1"]
    top, bottom = sorted((row, numbers.get("r2", row)))
    left, right = sorted((col, numbers.get("c2", numbers.get("c3", col))))
    inside = range(max(top, 1), min(bottom, rows) + 1), range(max(left, 1), min(right, cols) + 1)
    return {(r, c) for r in inside[0] for c in inside[1]}
