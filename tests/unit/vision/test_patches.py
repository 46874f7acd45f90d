"""Patches equal those of transformers' Qwen2-VL image processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from judo_edge.core import Image
from judo_edge.errors import ImageError
from judo_edge.vision.geometry import Preprocessing
from judo_edge.vision.patches import patches_from_image, resized_image

SIZES = [(512, 504), (224, 224)]


def photo(height: int, width: int, seed: int = 0) -> Image:
    """Draw smooth waves plus noise, so that resizing and ordering both matter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 9 + c) * np.cos(y / (7 + c)) for c in range(3)], axis=-1)
    noise = rng.normal(0, 30, (height, width, 3))
    return np.clip(127 + 90 * waves + noise, 0, 255).astype(np.uint8)


def slow_processor() -> Any:
    name = "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
    module = pytest.importorskip(name, reason="transformers' PIL form of the Qwen2-VL image processor is missing")
    return module.Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=12_845_056)


@pytest.mark.parametrize(("resize", "image_size"), SIZES)
@pytest.mark.parametrize("shape", [(480, 640), (900, 300), (100, 120)])
def test_equal_to_transformers_after_our_first_resize(resize: int, image_size: int, shape: tuple[int, int]) -> None:
    image = photo(*shape)
    squashed = PilImage.fromarray(image).resize((resize, resize), PilImage.Resampling.LANCZOS)
    wanted = slow_processor()(images=[squashed], return_tensors="np")
    preprocessing = Preprocessing(resize=resize, image_size=image_size)
    found = patches_from_image(image, preprocessing)
    assert tuple(wanted["image_grid_thw"][0]) == preprocessing.grid_thw
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, wanted["pixel_values"])


def test_one_bright_pixel_lands_in_its_place() -> None:
    preprocessing = Preprocessing(resize=56, image_size=56, mean=(0, 0, 0), std=(1, 1, 1))
    image = np.zeros((56, 56, 3), dtype=np.uint8)
    image[14 + 3, 28 + 5, 2] = 255
    row, column = np.argwhere(patches_from_image(image, preprocessing)[:, : 5 * 196] > 0)[0]
    assert row == 4 + 2  # second token of the top row, its lower left patch
    assert column == 2 * 2 * 196 + 3 * 14 + 5  # third channel, first time step


def test_photo_of_the_right_size_is_not_changed() -> None:
    image = photo(224, 224)
    np.testing.assert_array_equal(resized_image(image, Preprocessing(resize=224, image_size=224)), image)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(image: Any) -> None:
    with pytest.raises(ImageError, match="uint8 RGB"):
        patches_from_image(image, Preprocessing(resize=28, image_size=28))
