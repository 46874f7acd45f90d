"""Replies are read by their tags only; what is missing or broken is told apart from an empty mask."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judo_edge.core import CellMask, Reply
from judo_edge.protocol.reply import ReplyEvent, ReplyStream, reply_from_text, text_from_parts

GOOD = "<seg> (3,4)-(3,5) </seg>\n<think> A scratch. </think>\n<answer>A</answer>"


def read(text: str, letters: str = "AB") -> Reply:
    return reply_from_text(text, 16, 16, letters)


def test_a_valid_reply() -> None:
    reply = read(GOOD)
    assert reply.is_valid
    assert reply.text == GOOD
    assert reply.mask == CellMask.of(16, 16, [(3, 4), (3, 5)])
    assert (reply.think, reply.answer) == ("A scratch.", "A")


def test_parts_are_written_as_trained() -> None:
    assert text_from_parts(CellMask.of(16, 16, [(3, 5), (3, 4)]), "A scratch.", "A") == GOOD
    assert text_from_parts(CellMask(16, 16), "Fine.", "B") == (
        "<seg> None </seg>\n<think> Fine. </think>\n<answer>B</answer>"
    )
    for answer in ("a", "", "AB", "1", "\u00c4"):
        with pytest.raises(ValueError, match="capital letter"):
            text_from_parts(CellMask(16, 16), "x", answer)
    with pytest.raises(ValueError, match="reply tag"):
        text_from_parts(CellMask(16, 16), "x </think> y", "A")


WORDS = st.text(st.characters(exclude_characters="<>"), max_size=30)
CELLS = st.frozensets(st.tuples(st.integers(1, 16), st.integers(1, 16)), max_size=20)


@settings(max_examples=60, deadline=None)
@given(cells=CELLS, think=WORDS, answer=st.sampled_from("ABCDE"))
def test_write_then_read_is_the_identity(cells: frozenset[tuple[int, int]], think: str, answer: str) -> None:
    mask = CellMask(16, 16, cells)
    reply = reply_from_text(text_from_parts(mask, think, answer), 16, 16)
    assert reply.is_valid
    assert (reply.mask, reply.think, reply.answer) == (mask, think.strip(), answer)


@pytest.mark.parametrize(
    ("seg", "problem"),
    [
        ("", "<seg> is missing"),
        ("<seg> None\n", "<seg> is not closed"),
        ("None </seg>", "</seg> closes nothing"),
        ("<seg></seg>", "neither a cell nor None"),
        ("<seg> \n </seg>", "neither a cell nor None"),
        ("<seg> (1,1) , (99,1) </seg>", "outside the 16x16 grid"),
        ("<seg> None (1,1) </seg>", "<seg> is not a mask"),
        ("<SEG> None </SEG>", "<seg> is missing"),
        ("<seg > None </seg>", "<seg> is missing"),
        ("<seg> (1,1) </think> , (1,2) </seg>", "</think> closes nothing"),
        ("<seg> None <seg> x </seg>", "<seg> is not closed"),
    ],
)
def test_a_missing_or_broken_mask_is_not_an_empty_one(seg: str, problem: str) -> None:
    reply = read(f"{seg}\n<think> ok </think>\n<answer>B</answer>")
    assert reply.mask is None
    assert not reply.is_valid
    assert any(problem in line for line in reply.problems), reply.problems
    assert (reply.think, reply.answer) == ("ok", "B")


def test_newlines_inside_the_mask_are_white_space() -> None:
    reply = read("<seg>\n(1,2)\n,\n(1,4)\n</seg>\n<think>\nok\n</think>\n<answer>\nA\n</answer>")
    assert reply.is_valid
    assert reply.mask == CellMask.of(16, 16, [(1, 2), (1, 4)])
    none = read("<seg>\nNone\n</seg><think></think><answer>A</answer>")
    assert none.is_valid
    assert none.mask == CellMask(16, 16)
    assert none.think == ""


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "A",
        "The answer is A",
        "<answer></answer>",
        "<answer>A. Yes.</answer>",
        "<answer>a</answer>",
        "<answer>AB</answer>",
        "<answer>C</answer>",
        "<answer>1</answer>",
        "<answer>A",
        "<answer> <think> A </answer>",
        "A</answer>",
        "<Answer>A</Answer>",
    ],
)
def test_no_stray_letter_becomes_an_answer(answer: str) -> None:
    reply = read(f"<seg> None </seg>\n<think> A good part. B is a letter too. </think>\n{answer}")
    assert reply.answer is None
    assert not reply.is_valid
    assert reply.mask == CellMask(16, 16)


def test_letters_offered_are_all_letters_unless_given() -> None:
    text = GOOD.replace("<answer>A", "<answer>D")
    assert reply_from_text(text, 16, 16).answer == "D"
    assert read(text, "ABCD").answer == "D"
    assert read(text).answer is None
    assert "not one letter of those offered" in " ".join(read(text).problems)


def test_a_repeated_tag_counts_once_and_is_a_problem() -> None:
    reply = read(GOOD + "\n" + GOOD.replace("(3,4)-(3,5)", "None").replace("<answer>A", "<answer>B"))
    assert reply.mask == CellMask.of(16, 16, [(3, 4), (3, 5)])
    assert reply.answer == "A"
    assert reply.problems == ("<seg> comes twice", "<think> comes twice", "<answer> comes twice")
    broken = read("<seg> (99,1) </seg><seg> None </seg><think> x </think><answer>A</answer>")
    assert broken.mask is None


def test_wrong_order_and_text_outside_the_tags_are_problems() -> None:
    swapped = read("<think> x </think>\n<seg> None </seg>\n<answer>A</answer>")
    assert swapped.problems == ("tags come in the order think, seg, answer",)
    assert swapped.mask == CellMask(16, 16)
    for text in (f"Sure: {GOOD}", f"{GOOD} Bye", GOOD.replace("\n<answer>", "\nso\n<answer>")):
        assert [line.split(":")[0] for line in read(text).problems] == ["text outside the tags"]


def test_an_abandoned_tag_loses_only_itself() -> None:
    reply = read("<seg> (1,1) , <think> x </think>\n<seg> None </seg>\n<answer>A</answer>")
    assert reply.mask == CellMask(16, 16)
    assert reply.problems == ("<seg> is not closed", "tags come in the order think, seg, answer")
    cut = read("<seg> None </seg>\n<think> it ends in the mid")
    assert (cut.mask, cut.think, cut.answer) == (CellMask(16, 16), None, None)
    assert cut.problems == ("<think> is not closed", "<think> is missing", "<answer> is missing")


FRAGMENTS = [
    "<seg>",
    "</seg>",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<",
    ">",
    "/",
    "se",
    "<s",
    "</",
    "A",
    "B",
]
FRAGMENTS += [" None ", "(1,2)", " , ", "(1,4)-(1,9)", "(99,1)", "x", "\n", "<answer>A</answer>", "<seg> None </seg>"]
NEAR = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join),
    st.lists(st.sampled_from(FRAGMENTS), max_size=4).map(lambda parts: GOOD[:30] + "".join(parts) + GOOD[30:]),
    st.text(max_size=30),
)


def in_pieces(text: str, cuts: list[int]) -> tuple[Reply, list[ReplyEvent]]:
    stream = ReplyStream(16, 16, "AB")
    marks = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    events = [event for a, b in pairwise(marks) for event in stream.feed(text[a:b])]
    return stream.close(), events


@settings(max_examples=200, deadline=None)
@given(text=NEAR, cuts=st.lists(st.integers(0, 120), max_size=14))
def test_any_text_is_read_the_same_in_any_pieces(text: str, cuts: list[int]) -> None:
    whole = read(text)
    reply, events = in_pieces(text, cuts)
    assert reply == whole
    assert whole.text == text
    assert whole.is_valid is (not whole.problems)
    told = {event.kind: event.value for event in events if event.kind != "cells"}
    read_parts = {"mask": whole.mask, "think": whole.think, "answer": whole.answer}
    assert told == {kind: value for kind, value in read_parts.items() if value is not None}
    if whole.is_valid:
        assert None not in read_parts.values()


@settings(max_examples=60, deadline=None)
@given(cells=CELLS, cuts=st.lists(st.integers(0, 200), max_size=14))
def test_events_tell_every_cell_once_and_in_order(cells: frozenset[tuple[int, int]], cuts: list[int]) -> None:
    mask = CellMask(16, 16, cells)
    reply, events = in_pieces(text_from_parts(mask, "x", "A"), cuts)
    told = [
        cell for event in events if event.kind == "cells" and isinstance(event.value, tuple) for cell in event.value
    ]
    assert told == sorted(cells)
    assert reply.mask == mask
    kinds = [event.kind for event in events]
    assert kinds[-3:] == ["mask", "think", "answer"]
    assert set(kinds[:-3]) <= {"cells"}


def test_the_mask_is_known_before_the_reason() -> None:
    stream = ReplyStream(16, 16, "AB")
    assert stream.feed("<seg> (3,4)") == [ReplyEvent("cells", ((3, 4),))]
    assert stream.feed(" </se") == []
    assert stream.feed("g>\n<th") == [ReplyEvent("mask", CellMask.of(16, 16, [(3, 4)]))]
    assert not stream.is_complete
    events = stream.feed("ink> ok </think><answer>B</answer>")
    assert events == [ReplyEvent("think", "ok"), ReplyEvent("answer", "B")]
    assert stream.is_complete


@pytest.mark.parametrize(
    ("text", "should_stop"),
    [
        ("<seg> (3,4) , (3,6)", False),
        ("<seg> (3,4) , (3,4) , (3,3)", False),
        ("<seg> (3,4) , (3,4) , (3,4) , (3,4) ,", True),
        ("<seg> the part", True),
        ("<seg> (3,4) , (3,4) </seg>", False),
        (GOOD, False),
        ("<seg> None </seg><think> the same the same", False),
    ],
)
def test_a_looping_mask_asks_to_stop(text: str, should_stop: bool) -> None:
    stream = ReplyStream(16, 16)
    stream.feed(text)
    assert stream.should_stop is should_stop
