"""The mask guard: a valid reply stays as it is, a slip inside a mask is mended, and nothing becomes good by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judo_edge.core import CellMask, Floats
from judo_edge.protocol.reply import ReplyStream, reply_from_text, text_from_parts
from judo_edge.runtime.generation import MaskGuard
from judo_edge.runtime.tokenizer import Tokenizer
from tests.scripted import tokenizer as raw_tokenizer


def wrapped() -> Tokenizer:
    return Tokenizer(raw_tokenizer())


def guard_after(text: str) -> tuple[MaskGuard, Tokenizer]:
    stream, tokens = ReplyStream(16, 16), wrapped()
    stream.feed(text)
    return MaskGuard(tokens, stream), tokens


def preferring(tokens: Tokenizer, *texts: str) -> Floats:
    """Return logits that like the given single-token texts, the first most, and nothing else."""
    logits = np.full(raw_tokenizer().get_vocab_size(), -20, np.float32)
    for rank, text in enumerate(texts):
        (token,) = tokens.ids_from_text(text)
        logits[token] = 10 - rank
    return logits


def chosen(text: str, *wishes: str) -> tuple[str, int]:
    guard, tokens = guard_after(text)
    return tokens.piece(guard.choose(preferring(tokens, *wishes))), guard.num_held


@pytest.mark.parametrize(
    ("text", "wishes", "piece", "held"),
    [
        ("<seg> (2,3)-(", ("9", "2"), "2", 1),  # a run stays in its row
        ("<seg> (2,3)-(2,", ("2", "4"), "4", 1),  # and does not run backwards
        ("<seg> (2,3)-(2,4", (",", ")"), ")", 1),
        ("<seg> (2,3)-(2,", ("4", "5"), "4", 0),
        ("<seg> (1", ("9", "2"), "9", 0),  # no cell stands yet: left alone, though row 19 breaks the mask
        ("<seg>", ("x", "("), "x", 0),
        ("<seg> None", ("x", " "), "x", 0),
        ("<seg> (2,3) </seg>", ("x", "y"), "x", 0),
    ],
)
def test_the_best_token_that_fits_is_taken(text: str, wishes: tuple[str, ...], piece: str, held: int) -> None:
    assert chosen(text, *wishes) == (piece, held)


def test_the_end_token_does_not_cut_a_mask_off() -> None:
    guard, tokens = guard_after("<seg> (2,3)")
    end = raw_tokenizer().token_to_id("<|im_end|>")
    logits = preferring(tokens, ",")
    logits[end] = 11
    assert tokens.piece(guard.choose(logits)) == "," and guard.num_held == 1


cells = st.sets(st.tuples(st.integers(1, 16), st.integers(1, 16)), max_size=12)


@settings(max_examples=40, deadline=None)
@given(cells=cells)
def test_a_valid_reply_is_never_changed(cells: set[tuple[int, int]]) -> None:
    text = text_from_parts(CellMask.of(16, 16, cells), "why", "A")
    stream, tokens = ReplyStream(16, 16), wrapped()
    guard = MaskGuard(tokens, stream)
    for token in tokens.ids_from_text(text):
        logits = np.zeros(raw_tokenizer().get_vocab_size(), np.float32)
        logits[token] = 5
        assert guard.choose(logits) == token
        stream.feed(tokens.piece(int(token)))
    assert guard.num_held == 0 and stream.close().is_valid


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_the_model_wants_a_closed_mask_with_a_cell_is_readable(data: st.DataObject) -> None:
    text = "<seg> (3,4)"
    stream, tokens = ReplyStream(16, 16), wrapped()
    stream.feed(text)
    guard = MaskGuard(tokens, stream)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    likely = [int(token) for token in tokens.ids_from_text("0123456789(),- </seg>\n")]
    for _ in range(40):
        logits = rng.standard_normal(raw_tokenizer().get_vocab_size()).astype(np.float32)
        logits[likely] += 4
        piece = tokens.piece(guard.choose(logits))
        text += piece
        stream.feed(piece)
        if "</seg>" in text:
            break
    body, closed, _ = text.partition("</seg>")
    if closed:
        mask = reply_from_text(body + closed, 16, 16).mask
        assert mask is not None and len(mask) > 0
