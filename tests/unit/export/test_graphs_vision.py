"""The vision graph gives transformers' rows, in transformers' order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from judo_edge.core import Floats
from judo_edge.export.graphs.vision import window_plan
from tests.tiny import tiny_config
from tests.traced import Traced


def patches_for(traced: Traced, images: int) -> Floats:
    num_patches = (traced.image_size // 14) ** 2
    return np.random.default_rng(images).normal(size=(images, num_patches, 1176)).astype(np.float32)


def transformers_rows(traced: Traced, patches: Floats) -> Floats:
    side = traced.image_size // 14
    grid = torch.tensor([[1, side, side]] * len(patches))
    with torch.no_grad():
        output = traced.model.model.get_image_features(torch.from_numpy(patches).flatten(0, 1), image_grid_thw=grid)
    return torch.stack(list(output.pooler_output)).numpy()


def transformers_features(traced: Traced, patches: Floats) -> Floats:
    """Return the normed stream that the merger of transformers reads, each row at the place of its patch."""
    side, normed = traced.image_size // 14, []
    hook = traced.model.model.visual.merger.ln_q.register_forward_hook(lambda _, __, output: normed.append(output))
    transformers_rows(traced, patches)
    hook.remove()
    config = traced.model.config.vision_config
    grid = torch.tensor([[1, side, side]])
    order, _ = get_vision_window_index(grid, config.spatial_merge_size, config.window_size, config.patch_size)
    rows, cols = get_vision_position_ids(grid, config.spatial_merge_size).view(-1, 4, 2)[order].flatten(0, 1).T
    photos = normed[0].numpy().reshape(len(patches), side * side, -1)
    features = np.full_like(photos, np.nan).reshape(len(patches), side, side, -1)
    features[:, rows, cols] = photos
    return features.reshape(photos.shape)


@pytest.mark.parametrize("images", [1, 3])
def test_rows_equal_transformers_in_order(case: Traced, images: int) -> None:
    patches = patches_for(case, images)
    found, wanted = case.encode(patches), transformers_rows(case, patches)
    assert found.shape == wanted.shape == (images, case.merged_side**2, case.shape.hidden_size)
    errors = np.linalg.norm(found - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert errors.max() < 1e-4
    moved = np.linalg.norm(np.roll(wanted, 1, axis=1) - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert moved.min() > 1e-2  # rows differ so much that a wrong order cannot pass


def test_features_equal_transformers_row_by_row_of_the_photo(case: Traced) -> None:
    patches = patches_for(case, 2)
    found, wanted = case.features(patches), transformers_features(case, patches)
    assert found.shape == wanted.shape == (2, (case.image_size // 14) ** 2, case.shape.vision_hidden)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    moved = np.abs(np.roll(wanted, 1, axis=1) - wanted).max(axis=-1)
    assert moved.min() > 1e-2  # rows differ so much that a wrong order cannot pass


def test_a_photo_does_not_depend_on_its_batch(case: Traced) -> None:
    patches = patches_for(case, 3)
    together = case.encode(patches)
    for number in range(3):
        np.testing.assert_allclose(case.encode(patches[number : number + 1])[0], together[number], atol=1e-5)


def test_ragged_windows_of_judo_are_grouped() -> None:
    plan = window_plan(tiny_config().vision_config, 36)
    assert plan.groups == ((16, 64), (8, 32), (1, 16))
    assert sorted(plan.order.tolist()) == list(range(324))


def test_a_photo_smaller_than_a_window_is_one_window() -> None:
    assert window_plan(tiny_config().vision_config, 6).groups == ((1, 36),)


def test_attention_products_grow_with_groups_not_with_windows(case: Traced) -> None:
    softmaxes = [node for node in case.graphs.vision.model.graph if node.op_type == "Softmax"]
    assert len(softmaxes) <= 3 * case.shape.vision_depth
