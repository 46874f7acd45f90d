"""Which sets are refused, in which words, and how pairs are asked and answered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from judo_edge.calibration.samples import NO_CELL, NO_MASK, NOT_CHOSEN, Choice, PairSet, pairs_from_csv
from judo_edge.errors import ItemsError
from judo_edge.protocol.reply import reply_from_text
from tests.unit.calibration.photos import read_csv, write_csv, write_items

GRID = (16, 16)


def pairs(path: Path, minimum: int = 4, count: int | None = None, accept: tuple[Path, ...] = ()) -> PairSet:
    return pairs_from_csv(path, GRID, Choice(count, minimum), accept)


def refusal(path: Path, minimum: int = 4, accept: tuple[Path, ...] = ()) -> str:
    with pytest.raises(ItemsError) as caught:
        pairs(path, minimum, accept=accept)
    return str(caught.value)


def test_replies_are_valid_and_say_what_the_label_says(tmp_path: Path) -> None:
    chosen = pairs(write_items(tmp_path, 6, 6))
    assert len(chosen.pairs) == 12 and chosen.left_out == {} and chosen.checked_against == 2
    for pair in chosen.pairs:
        reply = reply_from_text(pair.reply, *GRID, pair.question.letters)
        assert reply.is_valid and reply.mask == pair.truth
        assert pair.question.says_defect(reply.answer) is pair.item.is_defect
        assert (len(pair.truth) > 0) is pair.item.is_defect
        assert ("None" in pair.reply) is not pair.item.is_defect


def test_both_letters_and_both_labels_occur_in_both_parts(tmp_path: Path) -> None:
    chosen = pairs(write_items(tmp_path, 8, 8))
    for held_out in (False, True):
        part = [pair for pair in chosen.pairs if pair.held_out is held_out]
        for is_defect in (False, True):
            assert {pair.answer for pair in part if pair.item.is_defect is is_defect} == {"A", "B"}
    assert sum(pair.held_out for pair in chosen.pairs) == 4


def test_a_few_pairs_have_held_out_ones_too(tmp_path: Path) -> None:
    chosen = pairs(write_items(tmp_path, 3, 1))
    assert [pair.held_out for pair in chosen.pairs] == [False, False, True, False]
    with pytest.raises(ValueError, match="at least 4"):
        Choice(minimum=3)


def test_references_follow_the_rule_of_the_set(tmp_path: Path) -> None:
    path = write_items(tmp_path, 4, 4)
    rows = read_csv(path)
    rows[5]["reference"] = "good2.png"
    chosen = pairs(write_csv(path, rows))
    names = {pair.item.image.name: pair.reference.path.name for pair in chosen.pairs}
    assert names["defect1.png"] == "good2.png" and names["good0.png"] == "good1.png"
    assert names["good1.png"] == names["defect0.png"] == "good0.png"
    assert len(chosen.photos) == 8  # references are queries too: each photo is encoded once


def test_a_limited_choice_spreads_over_the_file_and_both_labels(tmp_path: Path) -> None:
    chosen = pairs(write_items(tmp_path, 12, 4), count=6)
    names = [pair.item.image.stem for pair in chosen.pairs]
    assert names == ["good0", "good4", "good8", "defect0", "defect1", "defect2"]
    assert chosen.left_out == {NOT_CHOSEN: 10}
    scarce = pairs(write_items(tmp_path, 12, 2), count=10)
    assert sum(pair.item.is_defect for pair in scarce.pairs) == 2 and len(scarce.pairs) == 10


def test_defects_without_known_cells_are_left_out_and_counted(tmp_path: Path) -> None:
    chosen = pairs(write_items(tmp_path, 4, 2, without_mask=2, tiny=1))
    assert len(chosen.pairs) == 6 and chosen.left_out == {NO_MASK: 2, NO_CELL: 1}


def test_too_few(tmp_path: Path) -> None:
    text = refusal(write_items(tmp_path, 3, 2, without_mask=1), minimum=16)
    assert "5 pairs to calibrate on, 1 left out (defect without a mask)" in text and "at least 16" in text


def test_a_count_below_the_minimum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ItemsError, match="4 pairs to calibrate on"):
        pairs(write_items(tmp_path, 8, 8), minimum=8, count=4)


def test_empty(tmp_path: Path) -> None:
    assert "holds no items" in refusal(write_csv(tmp_path / "items.csv", []))


def test_no_train_items(tmp_path: Path) -> None:
    assert "no item in split 'train'" in refusal(write_items(tmp_path, 0, 0))


def test_all_good(tmp_path: Path) -> None:
    text = refusal(write_items(tmp_path, 20, 0))
    assert "all 20 train items are good" in text and "add known defects with masks" in text


def test_all_defective(tmp_path: Path) -> None:
    path = write_items(tmp_path, 2, 4)
    rows = read_csv(path)
    for row in rows:
        row["reference"] = "good0.png"
    assert "all 4 train items are defective" in refusal(write_csv(path, rows[2:]))


def test_only_defects_that_no_reply_can_describe(tmp_path: Path) -> None:
    path = write_items(tmp_path, 0, 0, without_mask=3)
    assert "no pair to calibrate on" in refusal(path)


def test_the_same_pixels_twice(tmp_path: Path) -> None:
    path = write_items(tmp_path, 4, 4)
    shutil.copy(tmp_path / "good1.png", tmp_path / "good3.png")
    assert "line 5: the same pixels as line 3" in refusal(path)


def test_a_photo_that_is_its_own_reference(tmp_path: Path) -> None:
    path = write_items(tmp_path, 4, 4)
    shutil.copy(tmp_path / "good0.png", tmp_path / "copy.png")
    rows = read_csv(path)
    rows[0]["reference"] = "copy.png"
    assert "line 2: the photo has the pixels of its own reference copy.png" in refusal(write_csv(path, rows))


@pytest.mark.parametrize("place", ["image", "reference"])
def test_a_photo_of_the_accept_split(tmp_path: Path, place: str) -> None:
    path = write_items(tmp_path, 4, 4)
    rows = read_csv(path)
    if place == "image":
        shutil.copy(tmp_path / "accept1.png", tmp_path / "good2.png")
    else:
        rows[6]["reference"] = "accept1.png"
    text = refusal(write_csv(path, rows))
    assert "is an acceptance item" in text and f"{path}, line 11" in text


def test_a_photo_of_another_acceptance_set(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    path, other = write_items(tmp_path, 4, 4), write_items(tmp_path / "other", 4, 4, seed=1)
    assert pairs(path, accept=(other,)).checked_against == 4
    shutil.copy(tmp_path / "defect1.png", tmp_path / "other" / "accept0.png")
    text = refusal(path, accept=(other,))
    assert "line 7: the photo defect1.png is an acceptance item" in text and f"{other}, line 10" in text


def test_an_acceptance_set_without_acceptance_items(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_items(tmp_path / "other", 4, 4, accept=0, seed=1)
    assert "no item in split 'accept'" in refusal(write_items(tmp_path, 4, 4), accept=(other,))


@pytest.mark.parametrize("name", ["defect2.png", "accept0.png"])
def test_an_unreadable_photo(tmp_path: Path, name: str) -> None:
    path = write_items(tmp_path, 4, 4)
    (tmp_path / name).write_bytes(b"no picture")
    text = refusal(path)
    assert name in text and ("line 8" if name == "defect2.png" else "line 10") in text
