"""Drawn pairs: reproducible, with a truth that lies where the photos differ."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `adapt` (torch)")

from judo_edge.adapt.dataset import cells_from_mask, set_from_pairs
from judo_edge.adapt.drawing.pairs import DEFECTS, draw_pair, draw_pairs
from judo_edge.adapt.drawing.parts import ADAPTER_KIND, BASE_KINDS, DRAWERS, SIZE
from judo_edge.adapt.heldout import heldout_pairs, items_from_pairs
from judo_edge.items import items_from_csv
from judo_edge.vision.geometry import cells_from_mask_image


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_a_defect_is_drawn_where_the_truth_says(kind: str) -> None:
    rng = np.random.default_rng(5)
    inside, outside = [], []
    for _ in range(6):
        pair = draw_pair(rng, kind, defective=True)
        assert pair.defect in DEFECTS and pair.mask.sum() >= 60
        difference = np.abs(pair.query.astype(float) - pair.reference).max(axis=2)
        inside.append(difference[pair.mask].mean())
        outside.append(difference[~pair.mask].mean())
    # A loose part lies at another angle in each photo, so its whole face differs; woven threads may only be missing.
    assert np.mean(inside) > (1.0 if kind in ("loose", ADAPTER_KIND) else 1.8) * np.mean(outside)


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_a_good_pair_has_an_empty_truth_and_two_different_photos(kind: str) -> None:
    pair = draw_pair(np.random.default_rng(6), kind, defective=False)
    assert pair.defect is None and not pair.mask.any()
    assert pair.query.shape == (SIZE, SIZE, 3) and pair.query.dtype == np.uint8
    assert (pair.query != pair.reference).any()


def test_the_same_seed_draws_the_same_pairs() -> None:
    one, two, other = (set_from_pairs(draw_pairs(seed, BASE_KINDS, 6)) for seed in (3, 3, 4))
    assert (one.photos == two.photos).all() and (one.cells == two.cells).all()
    assert (one.photos != other.photos).any()


def test_cells_follow_the_two_percent_rule_of_the_geometry() -> None:
    for pair in draw_pairs(9, BASE_KINDS, 8):
        assert (cells_from_mask(pair.mask) == cells_from_mask_image(pair.mask, 16, 16).to_array()).all()


def test_held_out_pairs_become_a_labelled_set(tmp_path) -> None:
    pairs = heldout_pairs(BASE_KINDS, 4)
    items = items_from_csv(items_from_pairs(pairs, tmp_path / "set"))
    assert [item.is_defect for item in items] == [False, True, False, True]
    truth = items[1].truth(16, 16)
    assert truth is not None and (truth.to_array() == cells_from_mask(pairs[1].mask)).all()
