"""What counts as right: decisions, undecided items, cells with and without a probe."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judo_edge.core import CellMask, Decision, Floats, Reply, Verdict
from judo_edge.evaluate import MASK, PROBE, Outcome, evaluation_from_outcomes

SIDE = 2
OK, NOK, OPEN = Decision.OK, Decision.NOK, Decision.NOT_DECIDABLE


def mask(*cells: tuple[int, int]) -> CellMask:
    return CellMask.of(SIDE, SIDE, cells)


def outcome(
    is_defect: bool,
    decision: Decision,
    score: float | None,
    said: CellMask | None = None,
    truth: CellMask | None = None,
    probe: Floats | None = None,
) -> Outcome:
    reply = Reply("", said, "", "A") if said is not None else None
    known = truth if is_defect else mask()
    return Outcome(is_defect, Verdict("f", "p", decision, "", score, reply=reply), known, probe)


def values(results: list[Outcome]) -> dict[str, float | None]:
    return {name: figure.value for name, figure in evaluation_from_outcomes(results).figures.items()}


def test_figures_of_a_small_set() -> None:
    results = [
        outcome(False, OK, -3.0, mask()),
        outcome(False, NOK, 1.0, mask((1, 1))),
        outcome(True, NOK, 2.0, mask((1, 1), (1, 2)), mask((1, 1))),
        outcome(True, OK, -1.0, mask(), mask((2, 2))),
    ]
    found = values(results)
    assert found["image_auroc"] == pytest.approx(3 / 4)
    assert found["recall"] == found["specificity"] == found["verdict_accuracy"] == 0.5
    assert found["cell_f1"] == pytest.approx(2 * 1 / (3 + 2)) and found["invalid"] == 0.0
    counts = evaluation_from_outcomes(results).counts
    assert [counts[key] for key in ("true_positive", "false_negative", "true_negative", "false_positive")] == [1] * 4


def test_undecided_items_are_wrong_everywhere() -> None:
    results = [
        outcome(False, OK, -3.0, mask()),
        outcome(False, OPEN, None),
        outcome(True, NOK, 2.0, mask((1, 1)), mask((1, 1))),
        outcome(True, OPEN, None, None, mask((2, 2))),
    ]
    found = values(results)
    assert found["invalid"] == 0.5 and found["recall"] == found["specificity"] == 0.5
    assert found["image_auroc"] == pytest.approx(1 / 4), "only the decided pair is in order"
    # 4 cells marked on the unread good part, 3 on the unread defect, its own cell missed.
    assert found["cell_f1"] == pytest.approx(2 * 1 / (1 + 4 + 3 + 2))
    assert results[1].score == math.inf and results[3].score == -math.inf


def test_probe_scores_cells_where_there_is_one() -> None:
    ranked = np.array([[3.0, 1.0], [0.0, 2.0]], np.float32)
    with_probe = [outcome(True, NOK, 1.0, mask(), mask((1, 1), (2, 2)), ranked)]
    evaluation = evaluation_from_outcomes(with_probe)
    assert evaluation.cell_score == PROBE and evaluation.figures["cell_auroc"].value == 1.0
    without = [outcome(True, NOK, 1.0, mask((1, 1)), mask((1, 1), (2, 2)))]
    evaluation = evaluation_from_outcomes(without)
    assert evaluation.cell_score == MASK and evaluation.figures["cell_auroc"].value == pytest.approx(0.75)


def test_defect_without_mask_takes_no_part_in_cells() -> None:
    results = [outcome(False, OK, -1.0, mask()), outcome(True, NOK, 1.0, mask((1, 1)), None)]
    assert values(results)["cell_f1"] is None and evaluation_from_outcomes(results).counts["with_cell_truth"] == 1


def test_json_is_plain() -> None:
    content = evaluation_from_outcomes([outcome(True, NOK, 1.0, mask((1, 1)), None)]).to_dict()
    assert content["image_auroc"] == {"value": None, "low": None, "high": None}
    assert content["recall"] == {"value": 1.0, "low": 1.0, "high": 1.0}
