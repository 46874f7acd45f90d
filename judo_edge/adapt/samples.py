"""Text of a training sample: a question about a pair and the reply that JUDO's format asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judo_edge.adapt.architecture import GRID, IMAGE_SIZE
from judo_edge.adapt.drawing.pairs import DEFECTS
from judo_edge.core import CellMask
from judo_edge.protocol.profile import PromptProfile, prompt_text
from judo_edge.protocol.questions import DETECTION_OPTIONS, DETECTION_TEXT, Question, QuestionType
from judo_edge.protocol.reasons import PLACES, place_of, reason
from judo_edge.protocol.reply import text_from_parts

Rng = np.random.Generator
SYSTEM = "You inspect parts. Mark the defective cells, give the reason, then answer."


@dataclass(frozen=True)
class Sample:
    """One question with its target reply."""

    question: Question
    reply: str


def nano_profile() -> PromptProfile:
    """Return the prompt profile of JUDO-nano: JUDO's layout with a short system text of its own and 224-px photos."""
    return PromptProfile(
        name="judo-nano",
        resize=IMAGE_SIZE,
        image_size=IMAGE_SIZE,
        grid_rows=GRID,
        grid_cols=GRID,
        system=SYSTEM,
        max_new_tokens=320,
    )


def sample_from_truth(rng: Rng, mask: CellMask, defect: str | None) -> Sample:
    """Choose a question (three of four ask for a verdict) and write its reply."""
    kind = int(rng.choice(3, p=(0.76, 0.12, 0.12))) if defect else 0
    if kind == 0:
        truth, options = DETECTION_OPTIONS[0 if defect else 1], list(DETECTION_OPTIONS)
    elif kind == 1:
        truth, options = _choices(rng, str(defect), DEFECTS)
    else:
        truth, options = _choices(rng, place_of(mask), PLACES)
    options = [options[int(i)] for i in rng.permutation(len(options))]
    question = _question(kind, tuple(options))
    answer = question.letter_from_option(truth) or ""
    return Sample(question, text_from_parts(mask, reason(mask, defect), answer))


def _choices(rng: Rng, truth: str, pool: tuple[str, ...]) -> tuple[str, list[str]]:
    others = rng.permutation([text for text in pool if text != truth])[:3]
    return f"{truth}.", [f"{truth}.", *(f"{text}." for text in others)]


def _question(kind: int, options: tuple[str, ...]) -> Question:
    if kind == 0:
        defect_option = options.index(DETECTION_OPTIONS[0])
        return Question(QuestionType.ANOMALY_DETECTION, DETECTION_TEXT, options, defect_option)
    if kind == 1:
        return Question(QuestionType.DEFECT_CLASSIFICATION, "What is the type of the defect?", options)
    return Question(QuestionType.DEFECT_LOCALIZATION, "Where is the defect?", options)


def split_prompt(profile: PromptProfile, question: Question, image_tokens: int) -> tuple[str, str]:
    """Return the prompt up to the end of the second image, and the rest."""
    text = prompt_text(profile, question, image_tokens)
    end = text.rindex("<|vision_end|>") + len("<|vision_end|>")
    return text[:end], text[end:]
