"""Positions equal those of Qwen2.5-VL's `get_rope_index`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from judo_edge.core import Ints
from judo_edge.errors import InputError
from judo_edge.vision.mrope import positions_from_ids, text_positions

PAD = 4


@cache
def reference_model() -> Any:
    pytest.importorskip("transformers", reason="transformers (extra `export`) is missing")
    from tests.tiny import tiny_model

    return tiny_model().model


def prompt(images: int, tokens: int, tail: int) -> Ints:
    one = [2, *[PAD] * tokens, 3]
    return np.array([7, 8, 9, *one * images, *range(10, 10 + tail)], dtype=np.int64)


@pytest.mark.parametrize(("merged_h", "merged_w"), [(8, 8), (18, 18), (2, 5)])
@pytest.mark.parametrize(("images", "tail"), [(1, 0), (2, 6)])
def test_equal_to_transformers(merged_h: int, merged_w: int, images: int, tail: int) -> None:
    import torch

    ids = prompt(images, merged_h * merged_w, tail)
    batch = torch.from_numpy(ids)[None]
    grid = torch.tensor([[1, 2 * merged_h, 2 * merged_w]] * images)
    wanted, deltas = reference_model().get_rope_index(batch, (batch == PAD).int(), image_grid_thw=grid)
    found, following = positions_from_ids(ids, PAD, merged_h, merged_w)
    np.testing.assert_array_equal(found, wanted[:, 0].numpy())
    assert found.dtype == np.int64 and following == len(ids) + int(deltas)


def test_text_only_and_empty() -> None:
    found, following = positions_from_ids(np.array([7, 8, 9]), PAD, 8, 8)
    np.testing.assert_array_equal(found, text_positions(0, 3))
    assert following == 3
    empty, start = positions_from_ids(np.array([], dtype=np.int64), PAD, 8, 8)
    assert empty.shape == (3, 0) and start == 0


@pytest.mark.parametrize("tokens", [63, 65, 128])
def test_a_run_of_another_length_is_refused(tokens: int) -> None:
    with pytest.raises(InputError, match="8 x 8 = 64"):
        positions_from_ids(prompt(1, tokens, 2), PAD, 8, 8)
