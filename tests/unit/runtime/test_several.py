"""Frames inspected together: the verdicts of one by one, one verdict each, and a fault costs one frame alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from judo_edge.bundle import Bundle
from judo_edge.core import Decision, Event, EventKind, Frame, Image
from judo_edge.errors import ImageError, InputError
from judo_edge.runtime.decoder import Decoder, Step
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.references import ReferencePhoto
from judo_edge.runtime.several import MAX_IMAGES
from judo_edge.runtime.stopwatch import STAGES
from judo_edge.runtime.together import Ask, read_together
from tests.scripted import (
    GRID,
    HIDDEN,
    SIDE,
    ScriptedBatch,
    ScriptedEngine,
    ids_of,
    photo,
    red_means_bad,
    scripted_bundle,
)

REDS = (10, 250, 20, 240, 30)


@pytest.fixture(scope="module", params=["query-first", "normal-first"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return scripted_bundle(tmp_path_factory.mktemp("bundles") / "scripted", image_order=request.param)


class PartReferences:
    """Two good parts for each part but `unknown`; the photo of `broken` cannot be read."""

    def candidates(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
        if frame.part == "unknown":
            raise InputError("no reference of part 'unknown'")
        part = sum(map(ord, frame.part))
        return tuple(
            ReferencePhoto(
                f"{frame.part}{number}", f"{part:032x}{number:032x}", self._loader(frame.part, part + number)
            )
            for number in (0, 1)
        )

    def pick(self, frame: Frame) -> ReferencePhoto:
        return self.candidates(frame)[0]

    def _loader(self, part: str, seed: int) -> Callable[[], Image]:
        def load() -> Image:
            if part == "broken":
                raise ImageError("half a photo")
            return photo(5, seed)

        return load


def frame(number: int, part: str = "") -> Frame:
    red = REDS[number % len(REDS)]
    return Frame(f"f{number}", part or "abc"[number % 3], photo(red, number), 0)


def inspector(bundle: Bundle, engine: ScriptedEngine, **options: bool) -> Inspector:
    return Inspector(bundle, engine, PartReferences(), **options)


def told(asked: Inspector, frames: list[Frame]) -> tuple[list[Inspection], dict[str, list[Event]]]:
    events: dict[str, list[Event]] = {one.frame_id: [] for one in frames}
    found = asked.look_together(frames, lambda event: events[event.frame_id].append(event))
    return found, events


def outcome(inspection: Inspection) -> tuple[object, ...]:
    verdict = inspection.verdict
    return inspection.ids, verdict.decision, verdict.reason, verdict.score, verdict.reference_id, verdict.evidence


@pytest.mark.parametrize("is_drafting", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_verdicts_are_those_of_one_by_one(bundle: Bundle, size: int, is_drafting: bool) -> None:
    frames = [frame(number) for number in range(10)]
    single = inspector(bundle, ScriptedEngine(red_means_bad), is_drafting=is_drafting)
    expected = [outcome(single.look(one)) for one in frames]
    together = inspector(bundle, ScriptedBatch(red_means_bad), is_drafting=is_drafting)
    for begin in range(0, len(frames), size):
        found, events = told(together, frames[begin : begin + size])
        assert [outcome(one) for one in found] == expected[begin : begin + size]
        for inspection in found:
            kinds = [event.kind for event in events[inspection.verdict.frame_id]]
            assert kinds == sorted(kinds, key=list(EventKind).index) and kinds.count(EventKind.VERDICT) == 1
            assert events[inspection.verdict.frame_id][-1].value is inspection.verdict


def test_vision_and_decoder_run_once_for_all(bundle: Bundle) -> None:
    engine = ScriptedBatch(red_means_bad)
    asked = inspector(bundle, engine)
    asked.look_together([frame(number) for number in range(3)])
    assert engine.encodes == [MAX_IMAGES, 9 - MAX_IMAGES], "three frames, and two references of each part"
    goods = [frame(0), frame(0, "b"), frame(0, "c")]
    for one in (*goods, *goods):
        asked.look(one)  # the replies are remembered
    engine.encodes.clear()
    engine.batches.clear()
    found = asked.look_together(goods)
    assert engine.encodes == [3] and engine.batches == [3]
    assert [one.verdict.num_passes for one in found] == [1, 1, 1]


def test_shares_of_stages_are_timed(bundle: Bundle) -> None:
    found = inspector(bundle, ScriptedBatch(red_means_bad)).look_together([frame(0), frame(1)])
    for one in found:
        assert set(one.verdict.timing.seconds) == {stage for stage in STAGES if stage != "load"}
        assert all(seconds >= 0 for seconds in one.verdict.timing.seconds.values())


def test_a_fault_costs_one_frame_alone(bundle: Bundle) -> None:
    grey = replace(frame(5), frame_id="grey", image=np.zeros((8, 8), np.uint8))
    lost, broken = frame(6, "unknown"), frame(7, "broken")
    frames = [frame(0), grey, lost, broken]
    found, events = told(inspector(bundle, ScriptedBatch(red_means_bad)), frames)
    alone = [inspector(bundle, ScriptedEngine(red_means_bad)).look(one) for one in frames]
    assert [outcome(one) for one in found] == [outcome(one) for one in alone]
    assert [one.verdict.decision for one in found] == [Decision.OK, *[Decision.NOT_DECIDABLE] * 3]
    assert "(8, 8)" in found[1].verdict.reason and "half a photo" in found[3].verdict.reason
    assert all([event.kind for event in its].count(EventKind.VERDICT) == 1 for its in events.values())


def test_logits_that_are_no_numbers_cost_one_frame_alone(bundle: Bundle) -> None:
    engine = ScriptedBatch(red_means_bad, is_broken=lambda red: red > 245)
    found, events = told(inspector(bundle, engine), [frame(0), frame(1), frame(3)])
    assert [one.verdict.decision for one in found] == [Decision.OK, Decision.NOT_DECIDABLE, Decision.NOK]
    assert "a logit that is not finite" in found[1].verdict.reason
    assert [event.kind for event in events["f1"]] == [EventKind.VERDICT]


@pytest.mark.parametrize("broken", ["batch encode", "batch decode"])
def test_when_what_is_shared_fails_each_frame_is_inspected_alone(bundle: Bundle, broken: str) -> None:
    frames = [frame(0), frame(1), frame(6, "unknown"), frame(3)]
    found, events = told(inspector(bundle, ScriptedBatch(red_means_bad, broken)), frames)
    decisions = [one.verdict.decision for one in found]
    assert decisions == [Decision.OK, Decision.NOK, Decision.NOT_DECIDABLE, Decision.NOK]
    for its in events.values():
        assert [event.kind for event in its].count(EventKind.VERDICT) == 1
        assert len({event.kind for event in its} - {EventKind.CELLS}) == len(
            [event for event in its if event.kind is not EventKind.CELLS]
        ), "nothing is told twice"


def test_an_engine_that_reads_one_prompt_looks_at_one_after_the_other(bundle: Bundle) -> None:
    engine = ScriptedEngine(red_means_bad)
    found = inspector(bundle, engine).look_together([frame(0), frame(1)])
    assert [one.verdict.decision for one in found] == [Decision.OK, Decision.NOK]
    assert inspector(bundle, engine).look_together([]) == []


def test_probe_of_each_prompt_becomes_its_cells(bundle: Bundle) -> None:
    engine = ScriptedBatch(red_means_bad)
    asked = inspector(bundle, engine)
    frames = [frame(0), frame(3), frame(1)]
    for one in frames:
        asked.look(one)
    leading = asked.prompt.leading_ids().size
    cells = np.zeros((1, len(asked.prompt) - leading, 64), np.float32)
    cells[0, asked.prompt.second_photo() - leading] = np.arange(SIDE * SIDE * 64).reshape(SIDE * SIDE, 64)
    engine.probe = cells
    expected = [asked.look(one).cell_scores for one in frames]
    for one, wanted in zip(asked.look_together(frames), expected, strict=True):
        assert wanted is not None and wanted.shape == (GRID, GRID) and np.array_equal(one.cell_scores, wanted)


def test_a_question_after_a_batch_reads_the_frame_again(bundle: Bundle) -> None:
    asked = inspector(bundle, ScriptedBatch(red_means_bad))
    frames = [frame(0), frame(1)]
    asked.look_together(frames)
    for one, red in zip(frames, REDS, strict=False):
        assert asked.ask(one, asked.question).text == red_means_bad(red)


def _asks(bundle: Bundle, drafts: list[list[int]]) -> tuple[ScriptedBatch, Decoder, list[Ask], int]:
    engine = ScriptedBatch(red_means_bad)
    asked = inspector(bundle, engine, is_drafting=False)
    other = np.zeros((SIDE * SIDE, HIDDEN), np.float32)
    asked.prompt.order = "query-first"
    asks = []
    for red, draft in zip((-1.0, 1.0, -0.9), drafts, strict=True):
        rows = np.full((SIDE * SIDE, HIDDEN), red, np.float32)
        asks.append(Ask(asked.prompt.juxtapose(rows, other), tuple(draft)))
    return engine, Decoder(engine, asked.model.embed), asks, len(asked.prompt)


def test_padding_behind_a_draft_is_never_accepted(bundle: Bundle) -> None:
    good, bad = ids_of(red_means_bad(0)), ids_of(red_means_bad(255))
    engine, decoder, asks, length = _asks(bundle, [good, bad[:3], [7] * 9])
    end = frozenset({good[-1]})
    firsts = read_together(engine, decoder._embed, asks, 99)
    assert [first.holds_reply(end) for first in firsts] == [True, False, False]
    assert [len(first.rows) for first in firsts] == [len(good) + 1, 4, 10]
    assert engine.batches == [3] and {first.run.num_new for first in firsts} == {length + len(good)}
    for first, ids, accepted in zip(firsts, (good, bad, good), (len(good), 3, 0), strict=True):
        decoder.take_up(first)
        steps: list[Step] = list(decoder.steps(end, 99))
        assert [step.token for step in steps] == ids
        assert decoder.passes[0].num_accepted == accepted and decoder.passes[0].num_prompts == 3
        assert len(decoder.passes) == max(1, len(ids) - accepted)
