"""Landmarks are found in the bundle's own vocabulary, and margins are read where the model decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from judo_edge.errors import BundleError, EngineError
from judo_edge.protocol.questions import Question, QuestionType, detection_question
from judo_edge.runtime.decoder import Step
from judo_edge.runtime.margins import ANSWER_MARGIN, MASK_MARGIN, MarginReader, landmarks_from_tokenizer
from judo_edge.runtime.tokenizer import Tokenizer
from tests.scripted import BAD, GOOD, GRID, ids_of, tokenizer

WRAPPED = Tokenizer(tokenizer())
MARKS = landmarks_from_tokenizer(WRAPPED, ("A", "B"), GRID, GRID)


def watched(text: str, special: dict[int, dict[int, float]], question: Question | None = None) -> dict[str, float]:
    """Feed a reply token by token; `special` gives logits {token: value} at the step that writes a token."""
    reader = MarginReader(MARKS, question or detection_question())
    for number, token in enumerate(ids_of(text)):
        logits = np.zeros(tokenizer().get_vocab_size(), dtype=np.float32)
        for other, value in special.get(token, {}).items():
            logits[other] = value
        reader.observe(Step(number, token, logits))
    return reader.margins


def test_landmarks_are_the_tokens_that_differ() -> None:
    assert WRAPPED.text_from_ids(MARKS.mask_lead) == "<seg>"
    assert WRAPPED.piece(MARKS.none_id) == " None" and WRAPPED.piece(MARKS.open_id) == " ("
    assert WRAPPED.text_from_ids(MARKS.answer_lead) == "<answer"
    assert {letter: WRAPPED.piece(token) for letter, token in MARKS.letter_ids.items()} == {"A": ">A", "B": ">B"}


def test_margins_are_defect_minus_good() -> None:
    a, b = MARKS.letter_ids["A"], MARKS.letter_ids["B"]
    logits = {MARKS.none_id: {MARKS.none_id: 4.0, MARKS.open_id: 1.5}, b: {a: 1.0, b: 3.0}}
    assert watched(GOOD, logits) == {MASK_MARGIN: -2.5, ANSWER_MARGIN: -2.0}


def test_option_order_decides_the_sign_not_the_letter() -> None:
    a, b = MARKS.letter_ids["A"], MARKS.letter_ids["B"]
    margins = watched(GOOD, {b: {a: 1.0, b: 3.0}}, detection_question(yes_first=False))
    assert margins[ANSWER_MARGIN] == 2.0


def test_a_later_bracket_is_not_the_first_mask_token() -> None:
    margins = watched(BAD, {MARKS.open_id: {MARKS.open_id: 2.0}})
    assert margins[MASK_MARGIN] == 2.0


def test_blank_before_the_mask_hides_no_margin() -> None:
    assert watched("\n" + GOOD, {MARKS.none_id: {MARKS.none_id: 4.0}})[MASK_MARGIN] == -4.0


def test_second_mask_does_not_change_the_margin() -> None:
    margins = watched(GOOD + BAD, {MARKS.none_id: {MARKS.none_id: 4.0}, MARKS.open_id: {MARKS.open_id: 9.0}})
    assert margins[MASK_MARGIN] == -4.0


def test_no_margin_without_its_place() -> None:
    assert watched("Sorry, no idea.", {}) == {}
    assert list(watched("<seg> None </seg>", {})) == [MASK_MARGIN]


def test_infinite_margin_is_a_fault() -> None:
    with pytest.raises(EngineError, match="margin"):
        watched(GOOD, {MARKS.none_id: {MARKS.none_id: float("inf")}})


def test_question_without_a_defect_option_has_no_margin_of_its_answer() -> None:
    reader = MarginReader(MARKS, Question(QuestionType.DEFECT_CLASSIFICATION, "Which?", ("One.", "Two."), None))
    for number, token in enumerate(ids_of(GOOD)):
        reader.observe(Step(number, token, np.zeros(tokenizer().get_vocab_size(), np.float32)))
    assert list(reader.margins) == [MASK_MARGIN]


def test_vocabulary_that_does_not_separate_letters_is_refused() -> None:
    class Blind(Tokenizer):
        def ids_and_starts(self, text: str) -> tuple[list[int], list[int]]:
            """Read every answer as A."""
            return super().ids_and_starts(text.replace("<answer>B", "<answer>A"))

    with pytest.raises(BundleError, match="answer letter"):
        landmarks_from_tokenizer(Blind(tokenizer()), ("A", "B"), GRID, GRID)


def test_broken_tokenizer_file_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Tokenizer.open(tmp_path / "tokenizer.json")
