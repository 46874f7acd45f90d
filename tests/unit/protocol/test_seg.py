"""The mask grammar: write then read is the identity, no text crashes a reader, and the readers agree."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from judo_edge.core import CellMask
from judo_edge.protocol.seg import (
    SegStream,
    SegSyntaxError,
    mask_from_seg_lenient,
    mask_from_seg_strict,
    seg_from_mask,
)

QUICK = settings(max_examples=100, deadline=None)


@st.composite
def masks(draw: st.DrawFn) -> CellMask:
    rows, cols = draw(st.integers(1, 32)), draw(st.integers(1, 32))
    cell = st.tuples(st.integers(1, rows), st.integers(1, cols))
    filled = draw(st.lists(st.tuples(cell, cell), max_size=3))
    cells = set(draw(st.lists(cell, max_size=30)))
    for (top, left), (bottom, right) in filled:
        cells |= {(r, c) for r in range(top, bottom + 1) for c in range(left, right + 1)}
    return CellMask.of(rows, cols, cells)


def pieces(text: str, cuts: list[int]) -> list[str]:
    marks = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(marks)]


def strict(text: str, rows: int = 16, cols: int = 16) -> CellMask | None:
    try:
        return mask_from_seg_strict(text, rows, cols)
    except SegSyntaxError:
        return None


def streamed(parts: list[str], rows: int = 16, cols: int = 16) -> tuple[CellMask | None, list[tuple[int, int]]]:
    stream = SegStream(rows, cols)
    told = [cell for part in parts for cell in stream.feed(part)]
    try:
        return stream.close(), told
    except SegSyntaxError:
        return None, told


# Texts near the grammar: plain random text would almost never reach the interesting states.
FRAGMENTS = ["(1,2)", "(3,4)-(3,9)", "(3,9)-(3,4)", "(3,4)-(5,6)", "(17,1)", "(1,16)", "None", "none", "nOnE", "no"]
FRAGMENTS += [
    "(",
    ")",
    ",",
    "-",
    " ",
    " , ",
    "\n",
    "\t",
    "1",
    "16",
    "007",
    "0",
    "9" * 30,
    "x",
    "[2,2]",
    "\u00a0",
    "\u0663",
]
NEAR = st.one_of(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join), st.text(max_size=40))
CUTS = st.lists(st.integers(0, 80), max_size=12)


@QUICK
@given(mask=masks(), cuts=CUTS)
@example(mask=CellMask(16, 16), cuts=[])
@example(mask=CellMask.of(16, 16, [(r, c) for r in range(1, 17) for c in range(1, 17)]), cuts=[1])
def test_write_then_read_is_the_identity(mask: CellMask, cuts: list[int]) -> None:
    text = seg_from_mask(mask)
    assert mask_from_seg_strict(text, mask.rows, mask.cols) == mask
    assert mask_from_seg_lenient(text, mask.rows, mask.cols) == (mask, ())
    stream = SegStream(mask.rows, mask.cols)
    told = [cell for part in pieces(f" {text} ", cuts) for cell in stream.feed(part)]
    assert told == sorted(mask.cells)
    assert not stream.is_looping
    assert stream.close() == mask


@QUICK
@given(mask=masks())
def test_written_runs_are_maximal_and_ascending(mask: CellMask) -> None:
    text = seg_from_mask(mask)
    if not mask.cells:
        assert text == "None"
        return
    ends = []
    for item in text.split(" , "):
        first, _, last = item.partition("-")
        assert last != first
        ends.append(tuple(tuple(map(int, end.strip("()").split(","))) for end in (first, last or first)))
    for ((row, _), (_, stop)), ((next_row, next_first), _) in pairwise(ends):
        assert (row, stop + 1) < (next_row, next_first) or row < next_row


@settings(max_examples=200, deadline=None)
@given(text=NEAR, cuts=CUTS, rows=st.integers(1, 32), cols=st.integers(1, 32))
@example(text="None,", cuts=[], rows=16, cols=16)
@example(text="(1,2", cuts=[], rows=16, cols=16)
@example(text="(1,2)-(0,2)", cuts=[], rows=16, cols=16)
@example(text=",,", cuts=[], rows=16, cols=16)
@example(text="(1,2)-(1,3)-(1,4)", cuts=[], rows=16, cols=16)
def test_strict_and_incremental_agree_on_any_text(text: str, cuts: list[int], rows: int, cols: int) -> None:
    wanted = strict(text, rows, cols)
    whole, told_whole = streamed([text], rows, cols)
    cut, told_cut = streamed(pieces(text, cuts), rows, cols)
    assert whole == cut == wanted
    assert told_whole == told_cut
    assert len(told_whole) == len(set(told_whole))
    if wanted is not None:
        assert set(told_whole) == wanted.cells


@settings(max_examples=200, deadline=None)
@given(text=NEAR, rows=st.integers(1, 32), cols=st.integers(1, 32))
def test_lenient_never_fails_and_reports_exactly_when_strict_refuses(text: str, rows: int, cols: int) -> None:
    wanted = strict(text, rows, cols)
    mask, repairs = mask_from_seg_lenient(text, rows, cols)
    assert (mask.rows, mask.cols) == (rows, cols)
    assert (repairs == ()) is (wanted is not None)
    if wanted is not None:
        assert mask == wanted


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("None", []),
        ("\n NONE\t", []),
        ("(1,2)", [(1, 2)]),
        (" ( 1 , 2 ) - ( 1 , 4 ) ", [(1, 2), (1, 3), (1, 4)]),
        ("(1,2),(3,4)", [(1, 2), (3, 4)]),
        ("(1,2)\n,\n(3,4) ,", [(1, 2), (3, 4)]),
        (",(1,2),,(1,2)", [(1, 2)]),
        ("(9,1) , (1,9) , (1,8)-(1,9)", [(9, 1), (1, 8), (1, 9)]),
        ("(05,016)", [(5, 16)]),
        ("(4,4)-(4,4)", [(4, 4)]),
    ],
)
def test_accepted_texts(text: str, cells: list[tuple[int, int]]) -> None:
    assert mask_from_seg_strict(text, 16, 16) == CellMask.of(16, 16, cells)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        ",",
        "no",
        "None,",
        "None None",
        "None , (1,1)",
        "(1,1) , None",
        "1,2",
        "(1,2",
        "1,2)",
        "(1,2)(3,4)",
        "((1,2))",
        "[1,2]",
        "(1,2,3)",
        "(1)",
        "(1,)",
        "(a,b)",
        "(1.0,2)",
        "(+1,2)",
        "(-1,2)",
        "(1_0,2)",
        "(\u0661,2)",
        "(0,1)",
        "(1,0)",
        "(17,1)",
        "(1,17)",
        f"(1,{'9' * 5000})",
        "(1,4)-(1,2)",
        "(1,4)-(2,5)",
        "(1,2)-(1,17)",
        "(1,2)--(1,3)",
        "(1,2)-",
        "(1,2)-3",
        "(1,2)-(1,3)-(1,4)",
        "(1,1) , (1,2) , (99,1)",
        "(1 2,3)",
        "(1,2) and (3,4)",
    ],
)
def test_refused_texts(text: str) -> None:
    with pytest.raises(SegSyntaxError):
        mask_from_seg_strict(text, 16, 16)
    assert streamed([text])[0] is None


def test_the_message_names_the_item() -> None:
    with pytest.raises(SegSyntaxError, match=r"\(17,3\) lies outside the 16x16 grid"):
        mask_from_seg_strict("(1,1) , (17,3)", 16, 16)
    with pytest.raises(SegSyntaxError, match="'357' is not a cell"):
        mask_from_seg_strict("357", 16, 16)


@pytest.mark.parametrize(
    ("text", "cells", "repair"),
    [
        ("[1,2]", [(1, 2)], "read '[1,2]' as '(1,2)'"),
        ("1,2 , 3,4", [(1, 2), (3, 4)], "read '1,2' as '(1,2)'"),
        ("(1,4)-(1,2)", [(1, 2), (1, 3), (1, 4)], "as '(1,2)-(1,4)'"),
        ("(1,2)-(2,3)", [(1, 2), (1, 3), (2, 2), (2, 3)], "as '(1,2)-(1,3) , (2,2)-"),
        ("(1,2)\u2013(1,3)", [(1, 2), (1, 3)], "as '(1,2)-(1,3)'"),
        ("(1,2)-4", [(1, 2), (1, 3), (1, 4)], "read '(1,2)-4'"),
        ("(1,2-4)", [(1, 2), (1, 3), (1, 4)], "read '(1,2-4)'"),
        ("(1,15)-(1,20)", [(1, 15), (1, 16)], "as '(1,15)-(1,16)'"),
        ("(1,2) , (40,3)", [(1, 2)], "dropped '(40,3)': outside the 16x16 grid"),
        ("(1,2) , (3,4)-(3,", [(1, 2), (3, 4)], "dropped '-(3'"),
        ("(1,2) , (3,4", [(1, 2), (3, 4)], "read '(3,4' as '(3,4)'"),
        ("(1,2) , (3,", [(1, 2)], "dropped '(3'"),
        ("(1,2)(3,4)", [(1, 2), (3, 4)], "comma missing between items"),
        ("(1,2) and (3,4)", [(1, 2), (3, 4)], "dropped 'and'"),
        ("defect at (1,2).", [(1, 2)], "dropped 'defect at'"),
        ("None , (1,2)", [(1, 2)], "dropped 'None'"),
        ("'None'.", [], "as None"),
        ("", [], "neither a cell nor None"),
        ("good part", [], "dropped 'good part'"),
        (f"(1,{'9' * 9})", [], "dropped"),
    ],
)
def test_repairs(text: str, cells: list[tuple[int, int]], repair: str) -> None:
    mask, repairs = mask_from_seg_lenient(text, 16, 16)
    assert mask == CellMask.of(16, 16, cells)
    assert any(repair in line for line in repairs), repairs


def test_cells_are_told_as_early_as_they_are_certain() -> None:
    stream = SegStream(16, 16)
    assert stream.feed(" (3,") == []
    assert stream.feed("4)") == [(3, 4)]
    assert stream.feed("-(3,6") == []
    assert stream.feed(") , ") == [(3, 5), (3, 6)]
    assert stream.cells == {(3, 4), (3, 5), (3, 6)}
    assert not stream.is_none
    assert stream.close().cells == stream.cells


def test_none_is_told_and_broken_text_stays_broken() -> None:
    stream = SegStream(16, 16)
    assert (stream.feed(" No"), stream.is_none) == ([], False)
    assert (stream.feed("ne"), stream.is_none) == ([], True)
    assert len(stream.close()) == 0
    assert stream.feed(" , (1,1)") == []
    assert stream.is_broken
    assert not stream.is_none
    for _ in range(2):
        with pytest.raises(SegSyntaxError):
            stream.close()


@pytest.mark.parametrize(
    ("text", "is_looping"),
    [
        ("(1,2) , (1,4) , (2,1) ,", False),
        ("(1,2)-(1,4) , (1,6) ,", False),
        ("(2,1) , (1,9) , (1,1) , (3,3) ,", False),  # any order is a valid mask
        ("(1,2) , (1,2)-(1,3) , (1,3)-(1,4) , (1,4)-(1,5) ,", False),
        ("(1,2) , (1,2) , (1,2) ,", False),
        ("(1,2) , (1,2) , (1,2) , (1,2) ,", True),
        ("(1,2)-(1,9) , (1,5) , (1,6) , (1,7) ,", True),
        ("(1,2) , , , ,", True),
    ],
)
def test_looping_is_noticed(text: str, is_looping: bool) -> None:
    stream = SegStream(16, 16)
    stream.feed(text)
    assert stream.is_looping is is_looping
    stream.feed(" (9,9) ,")
    assert stream.is_looping is is_looping


@pytest.mark.parametrize(
    "unit", ["(", ")", " ", "1", "(1", "(1,", "(1,2)-", "1,", "((1,2", "None ", "[", "\n,", "(1,1)"]
)
def test_long_texts_are_read_in_linear_time(unit: str) -> None:
    text = unit * (60_000 // len(unit))
    start = time.process_time()
    wanted = strict(text)
    assert streamed([text])[0] == wanted
    mask_from_seg_lenient(text, 16, 16)
    assert time.process_time() - start < 3  # a quadratic reader needs minutes
