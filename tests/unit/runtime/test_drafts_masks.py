"""Mask drafts: canonical from the start, taken up again behind whatever the model wrote instead."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judo_edge.core import CellMask
from judo_edge.protocol.seg import mask_from_seg_strict, seg_from_mask
from judo_edge.runtime.drafts.base import Evidence, Writing
from judo_edge.runtime.drafts.masks import MaskSource, mask_continuation
from judo_edge.runtime.drafts.text import TextDrafts
from judo_edge.runtime.tokenizer import Tokenizer
from tests.scripted import BAD, tokenizer

BLOB = CellMask.of(16, 16, [(3, 4), (3, 5), (3, 6), (4, 5), (6, 1)])
"""(3,4)-(3,6) , (4,5) , (6,1)"""


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        ("", " (3,4)-(3,6) , (4,5) , (6,1)"),
        (" ", "(3,4)-(3,6) , (4,5) , (6,1)"),
        (" (", "3,4)-(3,6) , (4,5) , (6,1)"),
        (" (3,4)-(3,6) , (4", ",5) , (6,1)"),
        (" (3,4)-(3,6)", " , (4,5) , (6,1)"),
        (" (3,4)-(3,6) ,", " (4,5) , (6,1)"),
        (" (3,4)-(3,6) , (4,5) , (6,1)", ""),
        (" (3,5", ")-(3,6) , (4,5) , (6,1)"),  # begun one column further right: the run ends where it was to end
        (" (2", ",4)-(2,6) , (3,4)-(3,6) , (4,5) , (6,1)"),  # a row more: shaped like the nearest one
        (" (3,4)-(3,7", ") , (4,5) , (6,1)"),  # a longer run
        (" (3,4)-(3,5) , (", "4,5) , (6,1)"),  # a shorter one: its rest is not an item of its own
        (" (3,4) ,", " (4,5) , (6,1)"),
        (" (9,9", ")"),  # nothing is marked there: the smallest item that it can be
        (" None", None),
        (" N", None),
        (" (7,1) , x", None),
    ],
)
def test_what_follows(body: str, rest: str | None) -> None:
    assert mask_continuation(BLOB, body) == rest


def test_an_empty_mask_is_none_and_has_nothing_to_say_about_cells() -> None:
    empty = CellMask(16, 16)
    assert mask_continuation(empty, "") == " None" and mask_continuation(empty, " N") == "one"
    assert mask_continuation(empty, " (3") is None


cells = st.sets(st.tuples(st.integers(1, 16), st.integers(1, 16)), max_size=14)


@settings(max_examples=200, deadline=None)
@given(marked=cells, written=cells, data=st.data())
def test_a_continuation_always_makes_a_readable_mask(
    marked: set[tuple[int, int]], written: set[tuple[int, int]], data: st.DataObject
) -> None:
    whole = f" {seg_from_mask(CellMask.of(16, 16, written))}"
    body = whole[: data.draw(st.integers(0, len(whole)))]
    rest = mask_continuation(CellMask.of(16, 16, marked), body)
    if rest is not None:
        mask_from_seg_strict(body + rest, 16, 16)


@settings(max_examples=100, deadline=None)
@given(marked=cells, data=st.data())
def test_a_model_that_agrees_is_foreseen_from_everywhere(marked: set[tuple[int, int]], data: st.DataObject) -> None:
    mask = CellMask.of(16, 16, marked)
    whole = f" {seg_from_mask(mask)}"
    cut = data.draw(st.integers(0, len(whole)))
    assert mask_continuation(mask, whole[:cut]) == whole[cut:]


def test_tokens_are_those_of_the_whole_reply() -> None:
    tokens = Tokenizer(tokenizer())
    ids = tokens.ids_from_text(BAD).tolist()
    source = MaskSource(TextDrafts(tokens))
    evidence = Evidence("lid", CellMask.of(16, 16, [(2, 3), (2, 4), (3, 4)]))
    head = "<seg> (2,3)-(2,4) , (3,4) </seg>"
    end = len(tokens.ids_from_text(head))
    for count in range(end):
        writing = Writing(evidence, ids[:count], "".join(tokens.piece(token) for token in ids[:count]))
        draft = source.propose(writing, 99)
        assert list(draft.ids[: end - count - 1]) == ids[count : end - 1], count
        assert len(draft.confidence) == len(draft.ids)
    behind = Writing(evidence, ids[: end + 1], "".join(tokens.piece(token) for token in ids[: end + 1]))
    assert not source.propose(behind, 99)


def test_no_evidence_no_guess() -> None:
    source = MaskSource(TextDrafts(Tokenizer(tokenizer())))
    assert not source.propose(Writing(Evidence("lid")), 9)
    assert len(source.propose(Writing(Evidence("lid", BLOB)), 3).ids) == 3
