"""Multiple-choice questions as MMAD asks them, and which option means "defect".

Options are known by their text; letters only follow from their order. Knows nothing of prompts or replies.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from judo_edge.errors import InputError

DETECTION_TEXT = "Is there any defect in the object?"
"""MMAD's wording of the detection question."""
DETECTION_OPTIONS = ("Yes.", "No.")
"""MMAD's option texts of the detection question, the one for a defect first."""

_LETTERS = string.ascii_uppercase
_DEFECT_WORDS = frozenset({"yes", "defect", "defective", "anomaly", "anomalous", "abnormal"})


class QuestionType(str, Enum):
    """MMAD's seven subtasks; its three kinds of object analysis are one, as its own scoring merges them."""

    ANOMALY_DETECTION = "Anomaly Detection"
    DEFECT_CLASSIFICATION = "Defect Classification"
    DEFECT_LOCALIZATION = "Defect Localization"
    DEFECT_DESCRIPTION = "Defect Description"
    DEFECT_ANALYSIS = "Defect Analysis"
    OBJECT_CLASSIFICATION = "Object Classification"
    OBJECT_ANALYSIS = "Object Analysis"


_MERGED_TYPES = {
    "Object Structure": QuestionType.OBJECT_ANALYSIS,
    "Object Details": QuestionType.OBJECT_ANALYSIS,
}


@dataclass(frozen=True)
class Question:
    """A question with its options in the order sent; ValueError for no option, over 26, or a bad defect option."""

    type: QuestionType
    text: str
    options: tuple[str, ...]
    defect_option: int | None = None
    """Index of the option whose text means "defect"; None when no option says so."""

    def __post_init__(self) -> None:
        """Refuse what cannot be lettered: questions are built by code or by `question_from_mmad`."""
        if not 1 <= len(self.options) <= len(_LETTERS):
            raise ValueError(f"{len(self.options)} options, wanted 1 to {len(_LETTERS)}")
        if self.defect_option is not None and not 0 <= self.defect_option < len(self.options):
            raise ValueError(f"defect option {self.defect_option} is not one of {len(self.options)} options")

    @property
    def letters(self) -> tuple[str, ...]:
        """Return the letters offered, A first."""
        return tuple(_LETTERS[: len(self.options)])

    @property
    def defect_letter(self) -> str | None:
        """Return the letter that means "defect" in this order, None when none does."""
        return None if self.defect_option is None else self.letters[self.defect_option]

    def option_from_letter(self, letter: str) -> str | None:
        """Return the text behind a letter, None for a letter that was not offered."""
        return self.options[self.letters.index(letter)] if letter in self.letters else None

    def letter_from_option(self, text: str) -> str | None:
        """Return the letter of an option text (case, outer blanks and final stop ignored), None when absent."""
        wanted = _plain(text)
        texts = [_plain(option) for option in self.options]
        return self.letters[texts.index(wanted)] if wanted in texts else None

    def says_defect(self, letter: str | None) -> bool | None:
        """Tell whether an answer means "defect"; None when the letter or its meaning is unknown."""
        if self.defect_letter is None or letter not in self.letters:
            return None
        return letter == self.defect_letter


def option_lines(question: Question) -> str:
    """Write the options as JUDO's evaluator does: one line `A. text` each, the last one ended too."""
    return "".join(f"{letter}. {text}\n" for letter, text in zip(question.letters, question.options, strict=True))


def detection_question(yes_first: bool = True) -> Question:
    """Build the standard question, with "Yes." as letter A or as letter B."""
    question = Question(QuestionType.ANOMALY_DETECTION, DETECTION_TEXT, DETECTION_OPTIONS, 0)
    return question if yes_first else reordered(question, (1, 0))


def reordered(question: Question, order: Sequence[int]) -> Question:
    """Return the question with option `order[i]` at place i; ValueError unless `order` is a permutation."""
    if sorted(order) != list(range(len(question.options))):
        raise ValueError(f"order {list(order)} is not a permutation of {len(question.options)} options")
    options = tuple(question.options[i] for i in order)
    defect = None if question.defect_option is None else list(order).index(question.defect_option)
    return Question(question.type, question.text, options, defect)


def question_type_from_mmad(name: str) -> QuestionType:
    """Map MMAD's type name to its subtask; InputError lists the known names."""
    try:
        return _MERGED_TYPES.get(name) or QuestionType(name)
    except ValueError:
        known = [kind.value for kind in QuestionType] + list(_MERGED_TYPES)
        raise InputError(f"question type {name!r}", f"one of {', '.join(known)}") from None


def question_from_mmad(entry: Mapping[str, Any]) -> Question:
    """Build a question from one `conversation` entry {Question, Options {letter: text}, type} of MMAD.

    Options are ordered by their letters. Only a detection question gets a defect option. InputError names the key.
    """
    kind = question_type_from_mmad(_text_at(entry, "type"))
    options = tuple(_options_from_mmad(entry).values())
    defect = _defect_option(options) if kind is QuestionType.ANOMALY_DETECTION else None
    return Question(kind, _text_at(entry, "Question"), options, defect)


def answer_from_mmad(entry: Mapping[str, Any]) -> int:
    """Return the index of the right option in the order of `question_from_mmad`; InputError when it is not offered."""
    answer, letters = _text_at(entry, "Answer").strip(), list(_options_from_mmad(entry))
    if answer not in letters:
        raise InputError(f"MMAD entry: Answer {answer!r}", f"one of {', '.join(letters)}")
    return letters.index(answer)


def _options_from_mmad(entry: Mapping[str, Any]) -> dict[str, str]:
    options = entry.get("Options")
    if not isinstance(options, Mapping) or not 1 <= len(options) <= len(_LETTERS):
        raise InputError(f"MMAD entry: Options = {str(options)[:60]!r}", "a mapping of letters to texts")
    if not all(isinstance(part, str) for pair in options.items() for part in pair):
        raise InputError("MMAD entry: Options holds something that is no text", "a mapping of letters to texts")
    return dict(sorted(options.items()))


def _text_at(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"MMAD entry: {key} = {value!r}", "a text")
    return value


def _defect_option(options: Sequence[str]) -> int | None:
    hits = [i for i, text in enumerate(options) if _plain(text) in _DEFECT_WORDS]
    return hits[0] if len(hits) == 1 else None


def _plain(text: str) -> str:
    return text.strip().rstrip(".!").strip().casefold()
