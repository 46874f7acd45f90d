"""One frame, one verdict: good, bad, inconsistent, invalid, faulty; and what the prompt is made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from judo_edge.bundle import Bundle
from judo_edge.core import CellMask, Decision, Floats, Frame, Image, Ints
from judo_edge.errors import BundleError, InputError
from judo_edge.protocol.profile import load_profile
from judo_edge.protocol.questions import Question, QuestionType, detection_question
from judo_edge.protocol.reply import text_from_parts
from judo_edge.runtime.engines.base import Decoded
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.margins import ANSWER_MARGIN, MASK_MARGIN
from judo_edge.runtime.model import preprocessing_from_bundle
from judo_edge.runtime.prompt import Prompt
from judo_edge.runtime.references import NearestReference, ReferencePhoto
from judo_edge.runtime.stopwatch import STAGES
from tests.scripted import (
    BAD,
    GOOD,
    GRID,
    HIDDEN,
    SIDE,
    ScriptedEngine,
    photo,
    red_means_bad,
    scripted_bundle,
)

EMPTY = CellMask(GRID, GRID)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return scripted_bundle(tmp_path_factory.mktemp("bundles") / "scripted")


def frame(red: int, name: str = "f") -> Frame:
    return Frame(name, "lid", photo(red), 0)


def reference(image: Image | None = None, sha256: str = "0" * 64) -> NearestReference:
    pixels = photo(0) if image is None else image
    return NearestReference([ReferencePhoto("ref", sha256, lambda: pixels)])


def inspector(bundle: Bundle, script: Callable[[float], str], **engine: object) -> Inspector:
    return Inspector(bundle, ScriptedEngine(script, **engine), reference())  # type: ignore[arg-type]


def test_good_frame_is_ok_with_margins_and_all_stages(bundle: Bundle) -> None:
    verdict = inspector(bundle, red_means_bad).inspect(frame(10))
    assert verdict.decision is Decision.OK
    assert verdict.reason == "The query matches the normal reference."
    assert verdict.margins[MASK_MARGIN] == -3.0 == verdict.score
    assert verdict.margins[ANSWER_MARGIN] == -8.0
    assert verdict.reply is not None and verdict.reply.text == GOOD
    assert tuple(verdict.timing.seconds) == tuple(stage for stage in STAGES if stage != "load")
    assert verdict.reference_id == "ref" and verdict.num_tokens > 10


def test_bad_frame_is_nok_with_its_cells(bundle: Bundle) -> None:
    verdict = inspector(bundle, red_means_bad).inspect(frame(250))
    assert verdict.decision is Decision.NOK and verdict.score == 3.0
    assert verdict.reply is not None and verdict.reply.mask == CellMask.of(GRID, GRID, [(2, 3), (2, 4), (3, 4)])


def test_letters_follow_the_option_order(bundle: Bundle) -> None:
    engine = ScriptedEngine(lambda red: GOOD)
    asked = Inspector(bundle, engine, reference(), detection_question(yes_first=False))
    verdict = asked.inspect(frame(10))
    assert verdict.decision is Decision.NOK, "letter B is Yes here"
    assert verdict.reason.startswith("answer and mask disagree: a defect, but no cell is marked")


def test_marked_cell_rejects_a_part_that_the_answer_passes(bundle: Bundle) -> None:
    text = text_from_parts(CellMask.of(GRID, GRID, [(1, 1)]), "Fine.", "B")
    verdict = inspector(bundle, lambda red: text).inspect(frame(10))
    assert verdict.decision is Decision.NOK and "disagree: no defect, but 1 cell marked" in verdict.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<seg> None </seg>\n<think> x </think>\n", "<answer> is missing"),
        ("<think> x </think>\n<answer>B</answer>", "<seg> is missing"),
        (GOOD.replace(">B<", ">D<"), "<answer> holds 'D'"),
        (GOOD.replace("None", "(99,1)"), "repeats itself or is broken"),
        ("A part without a defect.", "<seg> is missing"),
        ("", "<seg> is missing"),
    ],
)
def test_invalid_reply_is_not_decidable(bundle: Bundle, text: str, reason: str) -> None:
    verdict = inspector(bundle, lambda red: text).inspect(frame(10))
    assert verdict.decision is Decision.NOT_DECIDABLE and verdict.score is None
    assert reason in verdict.reason and verdict.reply is not None


def test_reply_that_loops_in_its_mask_is_stopped_early(bundle: Bundle) -> None:
    text = "<seg> " + " , ".join(["(1,1)"] * 40)
    verdict = inspector(bundle, lambda red: text).inspect(frame(10))
    assert verdict.decision is Decision.NOT_DECIDABLE and "repeats itself" in verdict.reason
    assert verdict.num_tokens < 60


def test_reply_at_the_cap_is_not_decidable(tmp_path: Path) -> None:
    capped = scripted_bundle(tmp_path / "capped", max_new_tokens=6)
    verdict = inspector(capped, lambda red: GOOD).inspect(frame(10))
    assert verdict.num_tokens == 6 and "cap on new tokens" in verdict.reason
    assert verdict.decision is Decision.NOT_DECIDABLE


def test_engine_fault_is_a_verdict_with_the_stage_timed(bundle: Bundle) -> None:
    verdict = inspector(bundle, red_means_bad, broken="encode").inspect(frame(10))
    assert verdict.decision is Decision.NOT_DECIDABLE and verdict.score is None
    assert verdict.reason == "the vision graph failed; do: look at it"
    assert list(verdict.timing.seconds) == ["align", "patches", "vision"]


def test_bug_is_a_verdict_that_keeps_the_reference(bundle: Bundle) -> None:
    verdict = inspector(bundle, red_means_bad, broken="decode").inspect(frame(10))
    assert verdict.decision is Decision.NOT_DECIDABLE
    assert verdict.reason == "internal fault: ZeroDivisionError: a bug" and verdict.reference_id == "ref"


def test_grey_frame_is_a_verdict(bundle: Bundle) -> None:
    grey = Frame("g", "lid", np.zeros((8, 8), dtype=np.uint8), 0)
    verdict = inspector(bundle, red_means_bad).inspect(grey)
    assert verdict.decision is Decision.NOT_DECIDABLE and "(8, 8)" in verdict.reason


def test_missing_reference_is_a_verdict(bundle: Bundle) -> None:
    class Nothing:
        def pick(self, frame: Frame) -> ReferencePhoto:
            raise NotImplementedError

        def candidates(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
            raise InputError("no reference of part 'lid'")

    verdict = Inspector(bundle, ScriptedEngine(red_means_bad), Nothing()).inspect(frame(10))
    assert verdict.decision is Decision.NOT_DECIDABLE and "no reference" in verdict.reason


def test_reference_is_encoded_once_and_cached_by_pixels(bundle: Bundle) -> None:
    engine = ScriptedEngine(red_means_bad)
    asked = Inspector(bundle, engine, reference())
    decisions = [asked.inspect(frame(red)).decision for red in (10, 250, 10)]
    assert engine.num_encoded == 3 + 1
    assert decisions == [Decision.OK, Decision.NOK, Decision.OK], "a cached reference never becomes the query"


def test_image_order_of_the_profile_is_followed(tmp_path: Path) -> None:
    normal_first = scripted_bundle(tmp_path / "normal-first", image_order="normal-first")
    engine = ScriptedEngine(red_means_bad)
    asked = Inspector(normal_first, engine, reference(photo(250)))
    assert asked.inspect(frame(10)).decision is Decision.OK
    assert [red > 128 for red in engine.reds] == [True, False], "first the reference, for keys and values to be kept"
    asked.inspect(frame(20))
    assert [red > 128 for red in engine.reds] == [True, False, False], "then the query alone"


def test_probe_of_the_second_photo_becomes_cell_scores(bundle: Bundle) -> None:
    probe = np.arange(SIDE * SIDE * 64, dtype=np.float32).reshape(SIDE * SIDE, 64)
    engine = ScriptedEngine(red_means_bad)
    asked = Inspector(bundle, engine, reference())
    second = asked.prompt.second_photo()
    assert second[-1] - second[0] == SIDE * SIDE - 1 and second[0] > SIDE * SIDE
    cells = np.zeros((1, len(asked.prompt), 64), dtype=np.float32)
    cells[0, second] = probe
    engine.probe = cells
    scores = asked.look(frame(10)).cell_scores
    assert scores is not None and scores.shape == (GRID, GRID)
    assert scores[0, :8].tolist() == probe[0, :8].tolist() and scores[0, 8] == probe[1, 0]
    assert scores[8, 0] == probe[2, 0]


def test_no_probe_no_cell_scores(bundle: Bundle) -> None:
    assert inspector(bundle, red_means_bad).look(frame(10)).cell_scores is None


def test_prompt_puts_rows_where_the_placeholders_are(bundle: Bundle) -> None:
    ids = np.array([7, 9, 9, 9, 9, 8, 9, 9, 9, 9, 7])
    prompt = Prompt(ids, lambda wanted: np.repeat(wanted[:, None].astype(np.float32), HIDDEN, 1), 9, 2, "query-first")
    query, other = np.full((4, HIDDEN), 100.0, np.float32), np.full((4, HIDDEN), 200.0, np.float32)
    first = prompt.juxtapose(query, other)
    assert first.embeds[0, :, 0].tolist() == [7, 100, 100, 100, 100, 8, 200, 200, 200, 200, 7]
    assert first.positions.shape == (3, 1, 11) and first.next_position == 1 + 2 + 1 + 2 + 1
    again = prompt.juxtapose(other, query)
    assert again.embeds[0, 1, 0] == 200 and first.embeds[0, 1, 0] == 100, "prompts do not share rows"


def test_leading_ids_end_where_the_query_begins() -> None:
    ids = np.array([7, 9, 9, 9, 9, 8, 8, 9, 9, 9, 9, 7])

    def leading(order: str) -> list[int]:
        return Prompt(ids, lambda wanted: np.zeros((len(wanted), 2), np.float32), 9, 2, order).leading_ids().tolist()

    assert leading("query-first") == [7] and leading("normal-first") == [7, 9, 9, 9, 9, 8, 8]


def test_profile_for_another_photo_size_is_refused(bundle: Bundle) -> None:
    other = load_profile(bundle.path_of("profile.toml")).model_copy(update={"image_size": 84})
    with pytest.raises(BundleError, match="84 pixels with graphs for 56"):
        preprocessing_from_bundle(bundle, other)


def test_prompt_without_two_photos_is_refused() -> None:
    with pytest.raises(BundleError, match="4 image tokens"):
        Prompt(np.array([1, 9, 9, 9, 9, 1]), lambda ids: np.zeros((len(ids), 2), np.float32), 9, 2, "query-first")


def test_bad_reply_text_round_trips_through_the_tokenizer(bundle: Bundle) -> None:
    verdict = inspector(bundle, lambda red: BAD).inspect(frame(10))
    assert verdict.reply is not None and verdict.reply.text == BAD and verdict.reply.is_valid


WHICH = Question(QuestionType.DEFECT_CLASSIFICATION, "What kind of defect is it?", ("Scratch.", "Dent."), None)


def test_another_question_about_the_frame_reads_the_question_alone(bundle: Bundle) -> None:
    engine = Watched(red_means_bad)
    asked = Inspector(bundle, engine, reference())
    shown = frame(250)
    asked.look(shown)
    engine.widths.clear()
    reply = asked.ask(shown, WHICH)
    assert reply.text == BAD and engine.num_encoded == 2, "query and reference, once each"
    before_question = len(asked.prompt) - len(asked.prompt.ids) + int(asked.prompt.second_photo()[-1])
    assert engine.widths[0] < len(asked.prompt) - before_question + 60
    again = asked.ask(shown, WHICH)
    assert again == reply and engine.num_encoded == 2


def test_a_question_about_another_frame_reads_it_all(bundle: Bundle) -> None:
    engine = Watched(red_means_bad)
    asked = Inspector(bundle, engine, reference())
    asked.look(frame(10))
    assert asked.ask(frame(250, "other"), WHICH).text == BAD and engine.num_encoded == 3


class Watched(ScriptedEngine):
    """Notes how many positions each pass reads."""

    def __init__(self, script: Callable[[float], str]) -> None:
        super().__init__(script)
        self.widths: list[int] = []

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        self.widths.append(inputs_embeds.shape[1])
        return super().advance(inputs_embeds, positions, rows)
