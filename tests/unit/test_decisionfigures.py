"""Rows of figures from signs worked out by hand; the drawn parts of the conformal check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from judo_edge.conformalfigures import DrawnGoodParts, conformal_figures
from judo_edge.core import Floats
from judo_edge.decisionfigures import Seen, rows_from_seen, table_lines
from judo_edge.items import Item
from judo_edge.runtime.margins import ANSWER_MARGIN, MASK_MARGIN
from judo_edge.vision.photos import sha256_from_image
from tests.decisions import observed


def seen(line: int, split: str, is_defect: bool, mask: float, cells: Floats | None = None) -> Seen:
    item = Item(line, Path(f"{line}.png"), is_defect, split, "", None, None)
    return Seen(item, {MASK_MARGIN: mask, ANSWER_MARGIN: mask / 2}, {} if cells is None else {"JUDO alone": cells})


def a_set() -> list[Seen]:
    """40 good train items around 0, and accept items of which one defect looks good and one good part does not."""
    rng = np.random.default_rng(0)
    train = [seen(line, "train", False, value) for line, value in enumerate(rng.normal(0, 1, 40).tolist())]
    good = [seen(50 + line, "accept", False, value) for line, value in enumerate((0.0, 0.1, -0.2, 50.0))]
    defects = [seen(60 + line, "accept", True, value) for line, value in enumerate((40.0, 60.0, 70.0, 0.05))]
    return [*train, *good, *defects]


def test_each_source_gets_a_row_with_its_threshold_from_train_items() -> None:
    rows = {row["source"]: row for row in rows_from_seen("lids", a_set())}
    assert list(rows) == ["JUDO alone", "all"]
    alone = rows["JUDO alone"]
    assert alone["threshold_photos"] == 40 and rows["all"]["threshold_photos"] == 30
    assert alone["recall"]["value"] == 0.75 and alone["false_rejects"]["value"] == 0.25
    assert alone["image_auroc"]["value"] == pytest.approx((3 + 4 + 4 + 2) / 16)
    assert alone["cell_auroc"]["value"] is None


def test_train_defects_add_a_row_and_no_train_item_takes_the_threshold_away() -> None:
    train_defects = [seen(80 + number, "train", True, 45.0 + number) for number in range(5)]
    rows = list(rows_from_seen("lids", [*a_set(), *train_defects]))
    assert [row["source"] for row in rows] == ["JUDO alone", "all", "all, train defects too"]
    rows = list(rows_from_seen("boards", [one for one in a_set() if one.item.split == "accept"]))
    assert rows[0]["image_auroc"]["value"] is not None and rows[0]["recall"]["value"] is None
    assert rows[1]["image_auroc"]["value"] is None and rows[1]["budget"] is None


def test_an_item_without_a_sign_is_wrong_either_way() -> None:
    items = a_set()
    blind = [Seen(items[44].item, {}, {}), Seen(items[40].item, {}, {})]
    assert [one.item.is_defect for one in blind] == [True, False]
    row = next(rows_from_seen("lids", [*items[:40], *items[41:44], *items[45:], *blind]))
    assert row["recall"]["value"] == 0.5 and row["false_rejects"]["value"] == 0.5


def test_the_table_has_a_line_per_row() -> None:
    lines = table_lines(list(rows_from_seen("lids", a_set())))
    assert len(lines) == 4 and "| 5 % |" in lines[2] and "0.750 (" in lines[2] and lines[2].endswith("| - |")


def test_the_promise_holds_over_many_partings() -> None:
    found = conformal_figures(observed(1200), 100)
    assert found["threshold_photos"] == 75 and found["fresh"] == 1100
    for name in ("partings_within_budget", "partings_within_bound"):
        assert found[name] == pytest.approx(found[f"{name}_by_law"], abs=0.05)
    assert found["partings_within_budget_by_law"] == pytest.approx(found["confidence"], abs=0.05)
    assert found["partings_mean_rate"] == pytest.approx(found["expected_rate"], rel=0.15)


def test_drawn_parts_come_with_their_own_reference() -> None:
    parts = DrawnGoodParts("label", 2, seed=5)
    references = [(frame.frame_id, parts.pick(frame)) for frame in parts]
    assert [name for name, _ in references] == ["0", "1"]
    for _, reference in references:
        assert sha256_from_image(reference.load()) == reference.sha256
