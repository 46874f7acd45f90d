"""What good parts teach about distances: their level, whether they lie in one place, and what stands out."""

from __future__ import annotations

import numpy as np
import pytest

from judo_edge.core import CellMask
from judo_edge.errors import EngineError
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.partfeatures import STANDS_OUT, FeatureMap, GoodLevel, PartFeatures
from tests.unit.runtime.test_features import SCENE, SIDE, embedding, with_defect

NOISE = 0.2


def aligned(count: int, first: int = 10) -> list[Embedding]:
    return [embedding(SCENE, NOISE, first + number) for number in range(count)]


def loose(count: int, first: int = 10) -> list[Embedding]:
    """Return photos whose parts lie anywhere: the same patches, rolled."""
    shifts = np.random.default_rng(first).integers(0, SIDE, (count, 2))
    return [embedding(np.roll(SCENE, shift, axis=(0, 1)), NOISE, first + number) for number, shift in enumerate(shifts)]


@pytest.mark.parametrize("count", [1, 2, 8, 30])
def test_good_parts_lie_below_the_top_and_defects_above(count: int) -> None:
    part = PartFeatures(aligned(count))
    good = [part.compare(photo).score for photo in aligned(20, first=100)]
    bad = part.compare(embedding(with_defect(SCENE, 4, 4), NOISE, 200)).score
    assert max(good) < STANDS_OUT and bad > max(good)
    assert part.compare(aligned(1)[0]).distance == part.compare(aligned(1)[0]).score * part.level.top
    if count > 1:
        assert 0.5 < np.mean(good) < 1.1, "a good part's score is about 1"


@pytest.mark.parametrize("count", [2, 8])
def test_references_say_whether_the_part_lies_in_one_place(count: int) -> None:
    assert PartFeatures(aligned(count)).level.is_aligned
    assert not PartFeatures(loose(count)).level.is_aligned


def test_a_loose_part_is_compared_anywhere() -> None:
    part = PartFeatures(loose(8))
    good, bad = loose(5, first=50), embedding(np.roll(with_defect(SCENE, 4, 4), (1, 3), (0, 1)), NOISE, 70)
    assert max(part.compare(photo).score for photo in good) < STANDS_OUT
    assert part.compare(bad).mask(SIDE, SIDE) == CellMask.of(SIDE, SIDE, [(6, 8)])


def test_an_aligned_part_tells_what_is_in_the_wrong_place() -> None:
    swapped = SCENE.copy()
    swapped[1, 1], swapped[6, 6] = SCENE[6, 6], SCENE[1, 1]
    part, blind = PartFeatures(aligned(8)), PartFeatures(aligned(8), is_aligned=False)
    assert part.compare(embedding(swapped)).mask(SIDE, SIDE) == CellMask.of(SIDE, SIDE, [(2, 2), (7, 7)])
    assert not len(blind.compare(embedding(swapped)).mask(SIDE, SIDE))


def test_the_order_of_references_changes_nothing() -> None:
    references, query = aligned(8), embedding(with_defect(SCENE, 3, 2), NOISE, 99)
    one, other = PartFeatures(references), PartFeatures(references[::-1])
    assert one.level == other.level
    np.testing.assert_array_equal(one.compare(query).map, other.compare(query).map)


def test_a_kept_level_gives_the_same_map() -> None:
    references, query = loose(4), embedding(SCENE, NOISE, 99)
    learned = PartFeatures(references)
    kept = GoodLevel.model_validate_json(learned.level.model_dump_json())
    assert kept == learned.level
    np.testing.assert_array_equal(PartFeatures(references, kept).compare(query).map, learned.compare(query).map)
    with pytest.raises(EngineError, match="level of 4 references for 3"):
        PartFeatures(references[:3], kept)


def test_copies_of_one_photo_do_not_divide_by_nothing() -> None:
    part = PartFeatures([embedding(SCENE)] * 3)
    assert np.isfinite(part.compare(embedding(SCENE)).map).all()
    assert not len(part.compare(embedding(SCENE)).mask(SIDE, SIDE))


def test_without_references_there_is_nothing_to_compare_with() -> None:
    with pytest.raises(EngineError, match="no reference"):
        PartFeatures([])


def test_a_map_is_seen_as_cells_heat_and_mask() -> None:
    values = np.zeros((36, 36), np.float32)
    values[18:21, 4:8] = 4
    found = FeatureMap(values)
    assert found.score == pytest.approx(4 * 12 / round(36 * 36 / 64))
    cells, heat = found.cells(16, 16), found.heat(480, 640)
    assert cells.shape == (16, 16) and np.unravel_index(cells.argmax(), cells.shape) == (8, 2)
    assert heat.shape == (480, 640) and heat.dtype == np.float32 and heat.max() == 4 and heat.min() == 0
    hot = np.argwhere(heat > 2)
    assert np.abs(hot.mean(axis=0) - [19.5 / 36 * 480, 6 / 36 * 640]).max() < 2
    assert found.mask(16, 16).cells == {(int(r) + 1, int(c) + 1) for r, c in np.argwhere(cells > STANDS_OUT)}
    assert 0 < len(found.mask(16, 16)) < 10
