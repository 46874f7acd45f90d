"""Who sees whom: the same answer in both dialects, and a hidden position weighs exactly nothing."""

from __future__ import annotations

import numpy as np
import pytest

from judo_edge.runtime.engines.masks import capacity_mask, causal_mask, drop_from_dtype


def test_mask_hides_only_the_future() -> None:
    visible = causal_mask(3, 2)[0, 0] == 0
    assert visible.tolist() == [
        [True, True, True, False, False],
        [True, True, True, True, False],
        [True, True, True, True, True],
    ]


def test_capacity_mask_hides_what_is_not_filled() -> None:
    whole = capacity_mask(3, 2, 8)
    assert whole.shape == (1, 1, 3, 8)
    assert np.array_equal(whole[..., :5], causal_mask(3, 2)) and (whole[..., 5:] < -1e8).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_hidden_position_weighs_exactly_nothing(dtype: type) -> None:
    drop = drop_from_dtype(dtype)
    assert np.isfinite(np.asarray(drop, dtype)) and np.exp(np.float32(drop)) == 0
