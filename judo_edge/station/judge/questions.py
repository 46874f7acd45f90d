"""Questions of people about a stored part: from what they typed to a question that the model knows, and its answer.

JUDO answers multiple-choice questions. Lines such as `A. Scratch` at the end of the text are the options; a text
without any is asked with `Yes.` and `No.`, the options of the question that it is asked most.
"""

from __future__ import annotations

import re
import string

from judo_edge.core import CellMask, Event, EventKind, Reply
from judo_edge.errors import InputError
from judo_edge.protocol.questions import DETECTION_OPTIONS, Question, QuestionType, detection_question

MAX_LENGTH = 1000
"""Characters of a question with its options."""
_OPTION = re.compile(r"\s*([A-Z])[.):]\s*(\S.*)")


def question_from_text(text: str) -> Question:
    """Return the question that a person typed; InputError when it is empty, too long or its options are not A, B, C."""
    lines = ["".join(char for char in line if char.isprintable()).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines or len(text) > MAX_LENGTH:
        raise InputError(f"a question of {len(text)} characters", f"1 to {MAX_LENGTH}", "ask again")
    options: list[tuple[str, str]] = []
    while lines and (found := _OPTION.fullmatch(lines[-1])):
        options.insert(0, (found.group(1), found.group(2)))
        lines.pop()
    letters = "".join(letter for letter, _ in options)
    if not lines or letters != string.ascii_uppercase[: len(options)] or len(options) == 1:
        raise InputError(
            f"options {letters!r} behind {len(lines)} lines", "a question, then A., B. and so on", "ask again"
        )
    return _question(" ".join(lines), tuple(option for _, option in options))


def _question(text: str, options: tuple[str, ...]) -> Question:
    known = detection_question()
    if text.casefold() == known.text.casefold() and not options:
        return known
    return Question(QuestionType.OBJECT_ANALYSIS, text, options or DETECTION_OPTIONS)


def piece_from_event(event: Event, question: Question) -> str:
    """Return what a person reads of an event while the answer is written; empty for one that says nothing new."""
    if event.kind is EventKind.MASK and isinstance(event.value, CellMask):
        cells = " ".join(f"({row},{col})" for row, col in sorted(event.value.cells))
        return f"Marked cells: {cells or 'none'}\n"
    if event.kind is EventKind.REASON:
        return f"{event.value}\n"
    if event.kind is EventKind.ANSWER:
        return f"{event.value}. {question.option_from_letter(str(event.value)) or ''}\n"
    return ""


def piece_from_reply(reply: Reply) -> str:
    """Return what is left to say once the reply is whole: why it cannot be read; empty when it can."""
    return "" if reply.is_valid else f"The reply is not valid ({'; '.join(reply.problems)}): {reply.text}\n"
