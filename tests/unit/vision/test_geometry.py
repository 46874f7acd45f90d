"""Sizes, cells and masks of `judo_edge.vision.geometry`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from judo_edge.core import CellMask
from judo_edge.vision.geometry import (
    Preprocessing,
    cell_box,
    cells_from_mask_image,
    coverage_from_mask_image,
    edges,
    image_tokens,
    mask_image_from_cells,
)


def test_known_sizes() -> None:
    judo = Preprocessing(resize=512, image_size=504)
    assert (judo.grid_thw, judo.num_patches, judo.patch_length, judo.merged_side) == ((1, 36, 36), 1296, 1176, 18)
    assert (image_tokens(504), image_tokens(224)) == (324, 64)


@pytest.mark.parametrize("change", [{"image_size": 512}, {"resize": 0}, {"colour": "bgr"}])
def test_bad_preprocessing_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({"resize": 512, "image_size": 504} | change)


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_cells_tile_the_photo(height: int, width: int, rows: int, cols: int) -> None:
    seen = np.zeros((height, width), dtype=np.int64)
    for row in range(1, rows + 1):
        for col in range(1, cols + 1):
            left, top, right, bottom = cell_box((row, col), rows, cols, height, width)
            seen[top:bottom, left:right] += 1
    assert (seen == 1).all()


def test_edges_are_truncated() -> None:
    assert edges(504, 16)[:4].tolist() == [0, 31, 63, 94]


@st.composite
def masks_and_sizes(draw: st.DrawFn) -> tuple[CellMask, int, int]:
    rows, cols = draw(st.integers(1, 16)), draw(st.integers(1, 16))
    cell = st.tuples(st.integers(1, rows), st.integers(1, cols))
    mask = CellMask.of(rows, cols, draw(st.sets(cell)))
    return mask, draw(st.integers(rows, 90)), draw(st.integers(cols, 90))


@given(masks_and_sizes())
@settings(max_examples=80, deadline=None)
def test_cells_to_pixels_and_back_is_the_identity(case: tuple[CellMask, int, int]) -> None:
    mask, height, width = case
    picture = mask_image_from_cells(mask, height, width)
    assert picture.shape == (height, width) and picture.dtype == np.uint8
    assert set(np.unique(picture)) <= {0, 255}
    assert cells_from_mask_image(picture > 0, mask.rows, mask.cols) == mask


def test_coverage_equals_the_plain_mean() -> None:
    mask = np.random.default_rng(0).random((101, 67)) < 0.3
    slow = np.zeros((16, 16))
    for row in range(16):
        for col in range(16):
            left, top, right, bottom = cell_box((row + 1, col + 1), 16, 16, 101, 67)
            slow[row, col] = mask[top:bottom, left:right].mean()
    np.testing.assert_array_equal(coverage_from_mask_image(mask, 16, 16), slow)


def test_two_percent_counts_and_less_does_not() -> None:
    mask = np.zeros((160, 160), dtype=np.bool_)
    mask[0, 0:2] = True  # 2 of 100 pixels of cell (1, 1)
    mask[10, 10] = True  # 1 of 100 pixels of cell (2, 2)
    assert cells_from_mask_image(mask, 16, 16).cells == {(1, 1)}


def test_photo_smaller_than_the_grid_gives_no_phantom_cells() -> None:
    full = cells_from_mask_image(np.ones((4, 4), dtype=np.bool_), 16, 16)
    assert len(full) == 16
    assert len(cells_from_mask_image(np.zeros((4, 4), dtype=np.bool_), 16, 16)) == 0
