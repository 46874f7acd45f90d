"""Two bundles over the same items, with engines that write given replies."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from judo_edge.bundle import Bundle
from judo_edge.calibration.gates import failed_gates, gate_results, load_gates
from judo_edge.core import Floats, Frame, Ints
from judo_edge.errors import EngineError, ItemsError
from judo_edge.evaluate import LabelledSet
from judo_edge.parity import compare
from judo_edge.parity.compare import Compared, compared_items
from judo_edge.parity.figures import figures_from_compared
from judo_edge.parity.report import Setting, accepted_from_results, report_content
from judo_edge.runtime.engines.base import Decoded, Encoded
from judo_edge.runtime.margins import ANSWER_MARGIN, MASK_MARGIN
from tests.scripted import BAD, GOOD, ScriptedEngine, red_means_bad, save_photo, scripted_bundle


class NoNumbers(ScriptedEngine):
    """Computes logits that are not finite from the second pass on, as an overflowing half does."""

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        decoded = super().advance(inputs_embeds, positions, rows)
        if self.length > self._prompt:
            decoded.logits[:] = np.nan
        return decoded


class LostOne(ScriptedEngine):
    """Computes one logit that never wins as minus infinity."""

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        decoded = super().advance(inputs_embeds, positions, rows)
        decoded.logits[..., 0] = -np.inf
        return decoded


class Turned(ScriptedEngine):
    """Sees photos upside down: the rows of a photo come in the opposite order."""

    def encode(self, patches: Floats) -> Encoded:
        rows = super().encode(patches).rows.copy()
        rows[:, :, 0] += np.arange(rows.shape[1]) * 50
        return Encoded(rows[:, ::-1] if self.broken == "turned" else rows)


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Bundle, Bundle]:
    return scripted_bundle(tmp_path / "reference"), scripted_bundle(tmp_path / "bundle")


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledSet:
    rows = [("image", "label", "split", "group", "reference", "mask")]
    save_photo(tmp_path / "set" / "reference.png", 3)
    for number in range(8):
        save_photo(tmp_path / "set" / f"{number}.png", 250 if number % 2 else 5, seed=number)
        rows.append((f"{number}.png", "defect" if number % 2 else "good", "accept", "", "reference.png", ""))
    with (tmp_path / "set" / "items.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return LabelledSet.open(tmp_path / "set" / "items.csv", "accept")


@pytest.fixture
def run(
    bundles: tuple[Bundle, Bundle], labelled: LabelledSet, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Compared]]:
    def compared(ours: ScriptedEngine, theirs: ScriptedEngine | None = None) -> list[Compared]:
        engines = {"reference": theirs or ScriptedEngine(red_means_bad), "bundle": ours}
        monkeypatch.setattr(compare, "engine_from_bundle", lambda bundle, *_: engines[bundle.folder.name])
        return compared_items(*bundles, labelled)

    return compared


def test_the_same_engine_agrees_in_everything(run: Callable[..., list[Compared]]) -> None:
    items = run(ScriptedEngine(red_means_bad))
    assert len(items) == 8
    for item in items:
        assert item.rows.cosine_min == pytest.approx(1) and item.rows.error_max == 0
        assert item.logits.largest == 0 and item.logits.agrees.all()
        assert item.margins == {MASK_MARGIN: 0.0, ANSWER_MARGIN: 0.0}
        assert abs(item.reference_margins[MASK_MARGIN]) == 3 and abs(item.reference_margins[ANSWER_MARGIN]) == 8
        assert item.reference.verdict.reply == item.bundle.verdict.reply


def test_what_is_measured_lies_along_the_reply_of_the_reference(run: Callable[..., list[Compared]]) -> None:
    items = run(ScriptedEngine(lambda red: BAD if red <= 128 else GOOD))
    for item in items:
        assert not item.logits.agrees.all() and len(item.logits.agrees) > 10
        # The scripts have other lengths, so at the reference's answer this one wants no letter at all.
        assert item.margins == {MASK_MARGIN: 6.0, ANSWER_MARGIN: 8.0}
        assert item.bundle.verdict.decision is not item.reference.verdict.decision
    figures = figures_from_compared(items)
    assert figures["clear_flips"].value == 1.0 and figures["clear_flips"].count == 8


def test_rows_are_compared_in_order(run: Callable[..., list[Compared]]) -> None:
    items = run(Turned(red_means_bad, broken="turned"), Turned(red_means_bad))
    assert all(item.rows.error_max > 0.1 for item in items)
    assert all(item.reference.verdict.reply == item.bundle.verdict.reply for item in items)


def test_logits_that_are_no_numbers_fail_the_gates_and_do_not_end_the_run(run: Callable[..., list[Compared]]) -> None:
    items = run(NoNumbers(red_means_bad))
    figures = figures_from_compared(items)
    assert figures["logit_difference_mean"].value == math.inf and figures["invalid"].value == 1.0
    assert figures["answer_margin_drift_max"].value == math.inf
    failed = failed_gates(gate_results(load_gates(), figures))
    assert {"logit_difference_mean", "top1_agreement", "answer_margin_drift_max", "invalid_rise"} <= set(failed)


def test_a_reference_that_fails_is_no_reference(run: Callable[..., list[Compared]]) -> None:
    with pytest.raises(EngineError, match=r"the reference could not inspect 0\.png"):
        run(ScriptedEngine(red_means_bad), ScriptedEngine(red_means_bad, broken="decode"))
    with pytest.raises(EngineError, match=r"logits on 0\.png are not finite"):
        run(ScriptedEngine(red_means_bad), LostOne(red_means_bad))


def test_a_bundle_whose_decoder_breaks_is_measured_as_broken(run: Callable[..., list[Compared]]) -> None:
    figures = figures_from_compared(run(ScriptedEngine(red_means_bad, broken="decode")))
    assert figures["invalid"].value == 1.0 and figures["reply_agreement"].value == 0.0


def test_the_report_says_what_changed_and_names_no_folder(
    run: Callable[..., list[Compared]], bundles: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    items = run(NoNumbers(lambda red: BAD))
    figures = figures_from_compared(items)
    results = gate_results(load_gates(), figures)
    setting = Setting(bundles[1], bundles[0], (tmp_path / "set" / "items.csv",), "accept", 1, "scripted")
    content = report_content(setting, items, figures, results)
    text = json.dumps(content, allow_nan=False)
    assert str(tmp_path) not in text and content["num_changed"] == 8
    assert content["changed"][1]["image"] == "set/1.png"  # type: ignore[index]
    assert content["failed"] == list(failed_gates(results)) and content["status"] == "failed"
    assert accepted_from_results(setting, items, results).items == "set/items.csv, split accept, 8 items"


def test_one_photo_in_two_sets_is_refused(labelled: LabelledSet) -> None:
    with pytest.raises(ItemsError, match="in two sets"):
        LabelledSet.joined([labelled, labelled])


def test_joined_sets_keep_their_references(labelled: LabelledSet, tmp_path: Path) -> None:
    save_photo(tmp_path / "other" / "reference.png", 77)
    save_photo(tmp_path / "other" / "a.png", 5)
    with (tmp_path / "other" / "items.csv").open("w", newline="") as file:
        rows = [
            ("image", "label", "split", "group", "reference", "mask"),
            ("a.png", "good", "accept", "", "reference.png", ""),
        ]
        csv.writer(file).writerows(rows)
    other = LabelledSet.open(tmp_path / "other" / "items.csv", "accept")
    joined = LabelledSet.joined([labelled, other])
    assert len(joined.items) == 9
    for item, red in ((joined.items[0], 3), (joined.items[8], 77)):
        frame = Frame("x", "p", np.zeros((4, 4, 3), np.uint8), 0, str(item.image))
        assert joined.references.pick(frame).load()[0, 0, 0] == red
        assert joined.references.candidates(frame) == (joined.references.pick(frame),)
