"""JUDO's own doubt, read from the logits as it writes: the first mask token, and the letter of the answer.

Knows which tokens compete, found in the bundle's own vocabulary. Decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from judo_edge.core import CellMask
from judo_edge.errors import BundleError, EngineError
from judo_edge.protocol.questions import Question
from judo_edge.protocol.reply import text_from_parts
from judo_edge.runtime.decoder import Step
from judo_edge.runtime.tokenizer import Tokenizer

MASK_MARGIN = "first_mask_token"
ANSWER_MARGIN = "answer_letter"


@dataclass(frozen=True)
class Landmarks:
    """The places in a reply where the model decides, as token ids."""

    mask_lead: tuple[int, ...]
    """What every reply begins with: `<seg>`."""
    none_id: int
    """First token of an empty mask."""
    open_id: int
    """First token of a mask with a cell."""
    answer_lead: tuple[int, ...]
    """The tokens of `<answer` before the one that holds the letter."""
    letter_ids: Mapping[str, int]
    """The token that holds each offered letter (in Qwen's vocabulary it holds the bracket too)."""


def landmarks_from_tokenizer(tokenizer: Tokenizer, letters: tuple[str, ...], rows: int, cols: int) -> Landmarks:
    """Tokenize replies that differ in one decision and see where their ids part.

    Raises BundleError when the vocabulary does not separate the choices by one token.
    """
    lead, none_id, open_id = _mask_choice(tokenizer, letters[0], rows, cols)
    answer_lead, letter_ids = _answer_choice(tokenizer, letters, rows, cols)
    return Landmarks(lead, none_id, open_id, answer_lead, letter_ids)


class MarginReader:
    """Watches one generation and keeps the margins, in logits; larger means rather a defect."""

    def __init__(self, landmarks: Landmarks, question: Question) -> None:
        """Begin a reply; only the letters of options that the question offers are compared.

        Without an option that means a defect, there is no margin of the answer.
        """
        self._landmarks = landmarks
        self._defect = question.defect_letter
        self._ids: list[int] = []
        self.margins: dict[str, float] = {}
        self.is_first_sight = False
        """Whether the step observed last was the first token of the mask."""

    def observe(self, step: Step) -> None:
        """Look at the logits of a step before its token counts as written."""
        marks, ids = self._landmarks, tuple(self._ids)
        self.is_first_sight = MASK_MARGIN not in self.margins and ids[-len(marks.mask_lead) :] == marks.mask_lead
        if self.is_first_sight:
            self.margins[MASK_MARGIN] = _finite(float(step.logits[marks.open_id]) - float(step.logits[marks.none_id]))
        if self._defect is not None and ids[-len(marks.answer_lead) :] == marks.answer_lead:
            self.margins[ANSWER_MARGIN] = self._answer_margin(step, self._defect)
        self._ids.append(step.token)

    def _answer_margin(self, step: Step, defect: str) -> float:
        logits = {letter: float(step.logits[token]) for letter, token in self._landmarks.letter_ids.items()}
        return _finite(logits.pop(defect) - max(logits.values()))


def _mask_choice(tokenizer: Tokenizer, letter: str, rows: int, cols: int) -> tuple[tuple[int, ...], int, int]:
    def reply(*cells: tuple[int, int]) -> list[int]:
        return tokenizer.ids_and_starts(text_from_parts(CellMask.of(rows, cols, cells), "x", letter))[0]

    empty, first, last = reply(), reply((1, 1)), reply((rows, cols))
    lead = _common(empty, first)
    if not lead or _common(empty, last) != lead or first[len(lead)] != last[len(lead)]:
        raise BundleError("a tokenizer without one token for the first mask cell", "` (` apart from the row", "retrain")
    return lead, empty[len(lead)], first[len(lead)]


def _answer_choice(
    tokenizer: Tokenizer, letters: tuple[str, ...], rows: int, cols: int
) -> tuple[tuple[int, ...], dict[str, int]]:
    texts = [text_from_parts(CellMask(rows, cols), "x", letter) for letter in letters]
    (ids, starts), *others = [tokenizer.ids_and_starts(text) for text in texts]
    lead = min((_common(ids, other) for other, _ in others), key=len, default=())
    begin = max(index for index, start in enumerate(starts) if start <= texts[0].index("<answer"))
    # Slices, because a vocabulary that cannot tell two answers apart may leave nothing after the lead.
    letter_ids = [row[len(lead) : len(lead) + 1] for row in (ids, *(other for other, _ in others))]
    if begin >= len(lead) or not all(letter_ids) or len({token for (token,) in letter_ids}) != len(letters):
        raise BundleError("a tokenizer without one token per answer letter", "`>A` apart from `>B`", "retrain")
    return lead[begin:], {letter: token for letter, (token,) in zip(letters, letter_ids, strict=True)}


def _finite(margin: float) -> float:
    if not math.isfinite(margin):
        raise EngineError(f"a margin of {margin}", "finite logits", "check the bundle with its parity report")
    return margin


def _common(one: list[int], other: list[int]) -> tuple[int, ...]:
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
