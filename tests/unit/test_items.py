"""Labelled sets: which reference an item gets, what a limit keeps, what a mask means; and the real sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from judo_edge.core import CellMask
from judo_edge.errors import ItemsError
from judo_edge.items import Item, chosen_items, items_from_csv, reference_candidates

DATA = Path(__file__).parents[3] / "shared" / "data"
SETS = ("cookies", "cubes", "deeppcb", "hazelnut")


def item(line: int, label: str, split: str, group: str = "", **paths: Path) -> Item:
    return Item(line, Path(f"{line}.png"), label == "defect", split, group, paths.get("reference"), paths.get("mask"))


ITEMS = (
    item(2, "good", "train", "red"),
    item(3, "good", "train", "blue"),
    item(4, "good", "accept", "blue"),
    item(5, "defect", "train", "blue"),
    item(6, "good", "train", "blue"),
)


@pytest.mark.parametrize(
    ("wanted", "count", "lines"),
    [
        (item(9, "defect", "accept", "blue"), 1, [3]),
        (item(9, "defect", "accept", "blue"), 5, [3, 6]),
        (item(9, "defect", "accept", "green"), 1, [2]),
        (item(9, "defect", "accept"), 5, [2, 3, 6]),
        (ITEMS[1], 1, [6]),
    ],
)
def test_reference_is_a_good_train_item_of_the_group(wanted: Item, count: int, lines: list[int]) -> None:
    assert [int(path.stem) for path in reference_candidates(wanted, ITEMS, count)] == lines


def test_own_reference_comes_first_and_none_is_an_error() -> None:
    own = item(9, "good", "accept", "blue", reference=Path("t.png"))
    assert reference_candidates(own, ITEMS) == (Path("t.png"),)
    with pytest.raises(ItemsError, match="line 9: no reference"):
        reference_candidates(item(9, "good", "accept"), ITEMS[2:4])


def test_limit_keeps_both_labels_in_file_order() -> None:
    many = tuple(item(line, "defect" if line > 6 else "good", "accept") for line in range(2, 12))
    assert [kept.line for kept in chosen_items(many, "accept", 4)] == [2, 3, 7, 8]
    assert chosen_items(many, "all", 99) == many
    with pytest.raises(ItemsError, match="no item in split 'train'"):
        chosen_items(many, "train")


def test_mask_takes_two_percent_of_a_cell(tmp_path: Path) -> None:
    mask = np.zeros((160, 160), np.uint8)
    mask[0, 0:2] = 255  # 2 of 100 pixels of cell (1, 1)
    mask[0, 10] = 255  # 1 of 100 of cell (1, 2)
    PillowImage.fromarray(mask).save(tmp_path / "m.png")
    assert item(2, "defect", "accept", mask=tmp_path / "m.png").truth(16, 16) == CellMask.of(16, 16, [(1, 1)])
    assert item(2, "defect", "accept").truth(16, 16) is None
    assert item(2, "good", "accept").truth(16, 16) == CellMask(16, 16)


def test_unreadable_mask_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_text("no picture")
    with pytest.raises(ItemsError, match="line 7: mask"):
        item(7, "defect", "accept", mask=tmp_path / "m.png").truth(16, 16)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("image,label,split,group,reference\n", "line 1: columns"),
        ("image,label,split,group,reference,mask,note\n", "line 1: columns"),
        ("image,label,split,group,reference,mask\n", "holds no items"),
        ("", "line 1: columns"),
        ('image,label,split,group,reference,mask\n"a\n', "unexpected end of data"),
    ],
)
def test_file_that_is_no_labelled_set(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(ItemsError, match=found):
        items_from_csv(tmp_path / "items.csv")


def test_same_image_twice_names_both_lines(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    rows = "image,label,split,group,reference,mask\n" + "a.png,good,train,,,\n" * 2
    (tmp_path / "items.csv").write_text(rows)
    with pytest.raises(ItemsError, match="line 3: the same image as line 2"):
        items_from_csv(tmp_path / "items.csv")


@pytest.mark.parametrize("name", SETS)
def test_real_set_is_read_whole(name: str) -> None:
    if not DATA.is_dir():
        pytest.skip(f"needs the real sets in {DATA}")
    items = items_from_csv(DATA / name / "items.csv")
    accept = chosen_items(items, "accept")
    assert {True, False} == {entry.is_defect for entry in accept}
    for entry in accept:
        (reference,) = reference_candidates(entry, items)
        assert reference.is_file()
    masked = [entry for entry in accept if entry.mask]
    truth = masked[0].truth(16, 16)
    assert truth is not None and 0 < len(truth) < 200
