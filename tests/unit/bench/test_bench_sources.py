"""Photos of slots: drawn ones never repeat, those of a set do and say so; references are never queries."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from judo_edge.bench.sources import DrawnParts, LabelledParts, ShotReferences
from judo_edge.bench.workloads import Slot
from judo_edge.errors import InputError, ItemsError
from judo_edge.vision.photos import sha256_from_image
from tests.scripted import save_photo


def test_the_seed_decides_the_drawn_photos_and_none_is_repeated() -> None:
    one, again, other = (DrawnParts(["board", "cast"], seed) for seed in (5, 5, 6))
    slots = [Slot(i, part, bad, turn) for i, (part, bad, turn) in enumerate(np.ndindex(2, 2, 4))]
    hashes = [sha256_from_image(one.shot(slot).image) for slot in slots]
    assert hashes == [sha256_from_image(again.shot(slot).image) for slot in reversed(slots)][::-1]
    assert len({*hashes, *(sha256_from_image(other.shot(slot).image) for slot in slots)}) == 2 * len(slots)
    assert not any(one.shot(slot).is_repeat for slot in slots)


def test_photos_of_a_drawn_part_share_its_reference() -> None:
    parts = DrawnParts(["board", "board"], 0)
    first, second, other = (parts.shot(Slot(i, part, False, i)) for i, part in enumerate((0, 0, 1)))
    assert parts.names == ("board-0", "board-1")
    assert first.reference.sha256 == second.reference.sha256 != other.reference.sha256
    assert sha256_from_image(first.reference.load()) == first.reference.sha256


def test_an_unknown_drawn_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"drawn kind 'wheel'; wanted: one of board, machined"):
        DrawnParts(["wheel"], 0)


def labelled(folder: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    for number, row in enumerate(rows):
        save_photo(folder / row[0], 5, seed=number)
    with (folder / "items.csv").open("w", newline="") as file:
        head = ("image", "label", "split", "group", "reference", "mask")
        csv.writer(file).writerows([head, *((*row, "", "") for row in rows)])
    return folder / "items.csv"


@pytest.fixture
def lids(tmp_path: Path) -> Path:
    good = [(f"g{i}.png", "good", "accept", "") for i in range(3)]
    return labelled(tmp_path / "lids", [("t.png", "good", "train", ""), *good, ("d.png", "defect", "accept", "")])


def test_a_set_is_shown_whole_before_a_photo_repeats(lids: Path) -> None:
    parts = LabelledParts([lids], "accept", 0)
    shots = [parts.shot(Slot(i, 0, False, i)) for i in range(6)]
    names = [shot.name.split("-")[1] for shot in shots]
    assert parts.names == ("lids",) and set(names[:3]) == {"g0", "g1", "g2"} and names[3:] == names[:3]
    assert [shot.is_repeat for shot in shots] == [False] * 3 + [True] * 3
    assert len({shot.name for shot in shots}) == 6
    assert {shot.reference.sha256 for shot in shots}.isdisjoint(sha256_from_image(shot.image) for shot in shots)


def test_groups_are_parts_and_the_one_with_both_labels_comes_first(tmp_path: Path) -> None:
    rows = [("t.png", "good", "train", "red"), *((f"b{i}.png", "good", "accept", "blue") for i in range(3))]
    rows += [("r0.png", "good", "accept", "red"), ("r1.png", "defect", "accept", "red")]
    parts = LabelledParts([labelled(tmp_path / "cubes", rows)], "accept", 0)
    assert parts.names == ("cubes/red", "cubes/blue")
    with pytest.raises(ItemsError, match=r"no defective item of part 'cubes/blue'; wanted: at least one; do: choose"):
        parts.shot(Slot(0, 1, True, 0))


def test_references_are_those_of_the_frames_at_hand() -> None:
    parts, references = DrawnParts(["board", "cast"], 0), ShotReferences()
    shots = [parts.shot(Slot(part, part, False, 0)) for part in (0, 1)]
    references.expect(shots)
    assert [references.pick(shot.frame()) for shot in shots] == [shot.reference for shot in shots]
    references.expect(shots[:1])
    with pytest.raises(KeyError):
        references.pick(shots[1].frame())


def test_a_bench_needs_no_training_library() -> None:
    code = "import sys, judo_edge.bench.session; print({'torch', 'transformers', 'onnx', 'peft'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
