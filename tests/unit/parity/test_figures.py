"""Figures of compared items, by hand and against plain loops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from judo_edge.core import CellMask, Decision, Reply, Verdict
from judo_edge.evaluate import Outcome
from judo_edge.items import Item
from judo_edge.parity.compare import Compared
from judo_edge.parity.drift import LogitDrift, RowDrift
from judo_edge.parity.figures import figures_from_compared, tolerant_f1
from judo_edge.runtime.margins import ANSWER_MARGIN, MASK_MARGIN

OK, NOK, OPEN = Decision.OK, Decision.NOK, Decision.NOT_DECIDABLE
FAR = {MASK_MARGIN: 3.0, ANSWER_MARGIN: -2.0}


def outcome(decision: Decision, is_defect: bool, cells: list[tuple[int, int]] | None = None, held: int = 0) -> Outcome:
    """An outcome whose text tells its decision and cells; an undecided one has neither mask nor valid format."""
    mask = CellMask.of(4, 4, cells if cells is not None else ([(1, 1)] if decision is NOK else []))
    broken = decision is OPEN
    text = f"{decision.value} {sorted(mask.cells)}"
    reply = Reply(text, None if broken else mask, "x", "A", ("the mask is missing",) if broken else ())
    verdict = Verdict("f", "p", decision, "x", None, reply=reply, num_held=held)
    return Outcome(is_defect, verdict, None, None)


def compared(
    reference: Outcome, bundle: Outcome, margins: Mapping[str, float] = FAR, drift: float = 0.0, line: int = 2
) -> Compared:
    """Two outcomes of one item with drifts of the numbers that do not matter here."""
    item = Item(line, Path("a.png"), reference.is_defect, "accept", "", None, None)
    agrees = np.array([True, True, False])
    logits = LogitDrift(np.array([0.1, 0.2, 0.6], np.float32), 2.0, agrees, np.array([False, False, True]))
    drifts = dict.fromkeys(margins, drift)
    return Compared(item, reference, bundle, RowDrift(0.9, 0.95, 0.3), logits, drifts, margins)


def pair(
    reference: Decision, bundle: Decision, is_defect: bool, margins: Mapping[str, float] = FAR, drift: float = 0.0
) -> Compared:
    return compared(outcome(reference, is_defect), outcome(bundle, is_defect), margins, drift)


def values(items: list[Compared]) -> dict[str, float | None]:
    return {name: figure.value for name, figure in figures_from_compared(items).items()}


def test_nothing_changed() -> None:
    found = values([pair(OK, OK, False), pair(NOK, NOK, True), pair(NOK, NOK, False)])
    zero = {"invalid_rise", "flips_good_to_nok", "flips_defect_to_ok", "clear_flips", "recall_drop", "specificity_drop"}
    assert {found[name] for name in zero} == {0.0}
    assert {found[n] for n in ("reply_agreement", "mask_agreement", "cell_f1", "tolerant_cell_f1")} == {1.0}


def test_flips_are_counted_apart_among_the_decisions_of_the_reference() -> None:
    items = [pair(OK, NOK, False), pair(OK, OK, False), pair(OK, OPEN, True), pair(NOK, OK, True), pair(NOK, NOK, True)]
    figures = figures_from_compared([*items, pair(NOK, NOK, True), pair(NOK, OPEN, True)])
    assert (figures["flips_good_to_nok"].value, figures["flips_good_to_nok"].count) == (pytest.approx(2 / 3), 3)
    assert (figures["flips_defect_to_ok"].value, figures["flips_defect_to_ok"].count) == (0.25, 4)
    assert figures["clear_flips"].value == pytest.approx(4 / 7)


def test_a_flip_at_a_near_tie_is_not_clear() -> None:
    near = {MASK_MARGIN: 0.4, ANSWER_MARGIN: -5.0}
    figures = figures_from_compared([pair(OK, NOK, False, near), pair(OK, NOK, False, {MASK_MARGIN: 9.0})])
    assert figures["clear_flips"].value is None and figures["clear_flips"].count == 0
    assert figures["flips_good_to_nok"].value == 1.0


def test_recall_and_specificity_do_not_hide_each_other() -> None:
    lost, won = pair(NOK, OK, True), pair(NOK, OK, False)
    figures = figures_from_compared([lost, pair(NOK, NOK, True), won, pair(OK, OK, False)])
    assert (figures["recall_drop"].value, figures["specificity_drop"].value) == (0.5, -0.5)
    assert (figures["recall_drop"].count, figures["specificity_drop"].count) == (2, 2)


def test_an_invalid_reply_counts_and_so_does_one_that_the_grammar_mended() -> None:
    mended = compared(outcome(NOK, True), outcome(NOK, True, held=2))
    figures = figures_from_compared([pair(OK, OPEN, False), mended, pair(OPEN, OK, False), pair(OK, OK, False)])
    assert (figures["invalid"].value, figures["invalid_rise"].value) == (0.5, 0.25)


def test_where_nobody_marks_a_cell_there_is_no_f1() -> None:
    figures = figures_from_compared([pair(OK, OK, False), pair(OK, OK, True)])
    assert figures["cell_f1"].value is None and figures["tolerant_cell_f1"].value is None
    assert figures["flips_defect_to_ok"].value is None


def test_a_missing_mask_is_wrong_everywhere() -> None:
    figures = figures_from_compared([pair(NOK, OPEN, True), pair(NOK, NOK, True)])
    # 15 cells wrongly marked and one missed, beside one right cell.
    assert figures["cell_f1"].value == pytest.approx(2 / (1 + 15 + 1 + 1)) and figures["mask_agreement"].value == 0.5


def test_a_neighbouring_cell_is_a_hit_only_tolerantly() -> None:
    moved = compared(outcome(NOK, True, [(2, 2)]), outcome(NOK, True, [(3, 3)]))
    figures = figures_from_compared([moved])
    assert (figures["cell_f1"].value, figures["tolerant_cell_f1"].value) == (0.0, 1.0)
    assert figures["cell_f1"].count == 1


def test_near_ties_are_left_out_of_the_agreement() -> None:
    figures = figures_from_compared([pair(OK, OK, False)])
    assert (figures["top1_agreement"].value, figures["top1_agreement"].count) == (1.0, 2)
    assert figures["top1_agreement_everywhere"].value == pytest.approx(2 / 3)
    assert figures["near_ties"].value == pytest.approx(1 / 3)
    assert figures["logit_difference_mean"].value == pytest.approx(0.3, abs=1e-6)


def test_margins_by_median_and_worst() -> None:
    items = [pair(OK, OK, False, drift=drift) for drift in (0.1, 0.2, math.inf)]
    found = values(items)
    assert found["mask_margin_drift_median"] == 0.2 and found["answer_margin_drift_max"] == math.inf
    assert figures_from_compared([pair(OK, OK, False, {})])["mask_margin_drift_max"].value is None


def test_tolerant_f1_equals_plain_loops() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        marked, truth = rng.random((2, 3, 5, 6)) < 0.15
        precise = found = 0
        for item in range(3):
            said, real = (list(zip(*np.nonzero(mask[item]), strict=True)) for mask in (marked, truth))

            def near(cell: tuple[int, int], others: list[tuple[int, int]]) -> bool:
                return any(max(abs(cell[0] - row), abs(cell[1] - col)) <= 1 for row, col in others)

            precise += sum(near(cell, real) for cell in said)
            found += sum(near(cell, said) for cell in real)
        precision, recall = precise / max(marked.sum(), 1), found / max(truth.sum(), 1)
        wanted = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert tolerant_f1(marked, truth)(np.ones(3)) == pytest.approx(wanted)
