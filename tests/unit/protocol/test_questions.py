"""Questions: letters follow the order of options, meaning follows their text."""

from __future__ import annotations

from typing import Any

import pytest

from judo_edge.errors import InputError
from judo_edge.protocol.questions import (
    Question,
    QuestionType,
    answer_from_mmad,
    detection_question,
    option_lines,
    question_from_mmad,
    question_type_from_mmad,
    reordered,
)


def entry(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "Question": "Is there any defect in the object?",
        "Answer": "A",
        "Options": {"A": "Yes.", "B": "No."},
        "type": "Anomaly Detection",
    }
    return {**base, **changes}


def test_detection_question_in_both_orders() -> None:
    first, second = detection_question(), detection_question(yes_first=False)
    assert option_lines(first) == "A. Yes.\nB. No.\n"
    assert option_lines(second) == "A. No.\nB. Yes.\n"
    assert (first.defect_letter, second.defect_letter) == ("A", "B")
    assert first.text == second.text


@pytest.mark.parametrize("yes_first", [True, False])
def test_answers_are_understood_by_text(yes_first: bool) -> None:
    question = detection_question(yes_first)
    yes, no = question.letter_from_option("yes"), question.letter_from_option(" NO. ")
    assert {yes, no} == {"A", "B"}
    assert question.says_defect(yes) is True
    assert question.says_defect(no) is False
    assert question.says_defect("C") is None
    assert question.says_defect(None) is None
    assert question.option_from_letter("Z") is None
    assert question.option_from_letter(yes or "") == "Yes."
    assert question.letter_from_option("Maybe") is None


def test_mmad_entry_keeps_letters_and_meaning() -> None:
    flipped = entry(Options={"B": "Yes.", "A": "No."}, Answer="B")
    question = question_from_mmad(flipped)
    assert question.options == ("No.", "Yes.")
    assert question.defect_letter == "B"
    assert answer_from_mmad(flipped) == 1


def test_only_detection_has_a_defect_option() -> None:
    question = question_from_mmad(entry(type="Defect Analysis"))
    assert question.defect_option is None
    assert question.says_defect("A") is None
    assert question_from_mmad(entry(Options={"A": "Left", "B": "Right"})).defect_option is None
    assert question_from_mmad(entry(Options={"A": "Yes", "B": "yes."})).defect_option is None


def test_types_merge_as_in_the_official_scoring() -> None:
    for name in ("Object Analysis", "Object Structure", "Object Details"):
        assert question_type_from_mmad(name) is QuestionType.OBJECT_ANALYSIS
    assert {question_type_from_mmad(kind.value) for kind in QuestionType} == set(QuestionType)
    assert len(QuestionType) == 7
    with pytest.raises(InputError, match="one of Anomaly Detection"):
        question_type_from_mmad("Anomaly")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"Question": " "}, "Question"),
        ({"Question": None}, "Question"),
        ({"Options": {}}, "Options"),
        ({"Options": ["Yes", "No"]}, "Options"),
        ({"Options": {"A": 1}}, "Options"),
        ({"Options": {1: "x", "B": "y"}}, "Options"),
        ({"type": None}, "type"),
        ({"type": "Other"}, "type"),
    ],
)
def test_broken_entries_name_the_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        question_from_mmad(entry(**changes))


@pytest.mark.parametrize("answer", ["C", "", None])
def test_an_answer_that_is_not_offered(answer: str | None) -> None:
    with pytest.raises(InputError, match="Answer"):
        answer_from_mmad(entry(Answer=answer))


def test_reordering_moves_the_defect_option() -> None:
    question = Question(QuestionType.ANOMALY_DETECTION, "?", ("a", "b", "yes"), 2)
    moved = reordered(question, (2, 0, 1))
    assert moved.options == ("yes", "a", "b")
    assert moved.defect_letter == "A"
    assert reordered(moved, (1, 2, 0)) == question
    for order in ((0, 1), (0, 0, 1), (0, 1, 3)):
        with pytest.raises(ValueError, match="permutation"):
            reordered(question, order)


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="0 options"):
        Question(QuestionType.DEFECT_ANALYSIS, "?", ())
    with pytest.raises(ValueError, match="27 options"):
        Question(QuestionType.DEFECT_ANALYSIS, "?", ("x",) * 27)
    with pytest.raises(ValueError, match="defect option 2"):
        Question(QuestionType.DEFECT_ANALYSIS, "?", ("x", "y"), 2)
