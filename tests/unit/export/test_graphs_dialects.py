"""Both dialects, both types and every cut give transformers' logits, also after rewinding and writing again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from judo_edge.core import Floats, Ints
from tests.dialects import FORMS, Models
from tests.traced import Decoding, Traced

LENGTH, CAPACITY = 40, 48
TOLERANCE = {"float32": 2e-4, "float16": 2e-2}
"""Of a logit, in units of the logits' spread. Half precision has 2**-11 for each rounding."""


def inputs(case: Traced, length: int = LENGTH, seed: int = 3) -> tuple[Floats, Ints]:
    """Return embeddings and positions that differ on the three axes, as those of photos do."""
    rng = np.random.default_rng(seed)
    embeds = rng.normal(size=(1, length, case.shape.hidden_size)).astype(np.float32)
    positions = np.cumsum(rng.integers(0, 3, (3, 1, length)), axis=-1)
    return embeds, positions


def transformers_logits(case: Traced, embeds: Floats, positions: Ints) -> Floats:
    with torch.no_grad():
        output = case.model(
            inputs_embeds=torch.from_numpy(embeds),
            position_ids=torch.from_numpy(positions),
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
        )
    logits: Floats = output.logits.numpy()
    return logits


def in_chunks(decoding: Decoding, embeds: Floats, positions: Ints, sizes: list[int]) -> Floats:
    logits = []
    for size in sizes:
        part = slice(decoding.length, decoding.length + size)
        logits.append(decoding.advance(embeds[:, part], positions[:, :, part], np.arange(size)))
    return np.concatenate(logits, axis=1)


def assert_close(found: Floats, wanted: Floats, form: str) -> None:
    assert found.shape == wanted.shape
    spread = wanted.std()
    assert spread > 0.1
    error = np.abs(found - wanted).max() / spread
    assert error < TOLERANCE[FORMS[form].dtype], error


@pytest.mark.parametrize("form", list(FORMS))
def test_prefill_and_steps_equal_transformers(models: Models, shape: str, form: str) -> None:
    case = models(shape, form)
    embeds, positions = inputs(case)
    wanted = transformers_logits(case, embeds, positions)
    found = in_chunks(Decoding(case, CAPACITY), embeds, positions, [LENGTH - 12, 7, 1, 1, 1, 2])
    assert_close(found, wanted, form)
    whole = in_chunks(Decoding(case, CAPACITY), embeds, positions, [LENGTH])
    assert_close(whole, wanted, form)


@pytest.mark.parametrize("form", ["legacy", "modern", "modern-cut", "modern-half"])
def test_rewound_positions_are_written_again(models: Models, shape: str, form: str) -> None:
    case = models(shape, form)
    (embeds, positions), (other, _) = inputs(case), inputs(case, seed=9)
    decoding = Decoding(case, CAPACITY)
    in_chunks(decoding, other, positions, [30, 5])  # what a refused draft leaves behind
    decoding.rewind(0)
    in_chunks(decoding, embeds, positions, [25])
    in_chunks(decoding, other, positions, [9])
    decoding.rewind(25)
    found = in_chunks(decoding, embeds, positions, [1, LENGTH - 26])
    assert_close(found, transformers_logits(case, embeds, positions)[:, 25:], form)


@pytest.mark.parametrize("form", ["modern", "modern-half"])
def test_what_was_never_written_is_never_read(models: Models, shape: str, form: str) -> None:
    case = models(shape, form)
    embeds, positions = inputs(case)
    zeros, stale = (in_chunks(Decoding(case, CAPACITY, x), embeds, positions, [20, 1, 1]) for x in (0.0, 900.0))
    np.testing.assert_array_equal(zeros, stale)


@pytest.mark.parametrize(("cut", "whole"), [("legacy-cut", "legacy"), ("modern-cut", "modern")])
def test_a_cut_decoder_equals_the_whole(models: Models, shape: str, cut: str, whole: str) -> None:
    results = []
    for form in (cut, whole):
        case = models(shape, form)
        results.append(in_chunks(Decoding(case, CAPACITY), *inputs(case), [30, 1, 9]))
    np.testing.assert_allclose(results[0], results[1], atol=1e-6 * float(results[1].std()))


@pytest.mark.parametrize("form", ["modern", "legacy-half", "modern-half"])
def test_photos_equal_those_of_transformers(models: Models, shape: str, form: str) -> None:
    case = models(shape, form)
    patches = np.random.default_rng(4).normal(size=(2, 256, 1176)).astype(np.float32)
    with torch.no_grad():
        output = case.model.model.get_image_features(
            torch.from_numpy(patches).flatten(0, 1), image_grid_thw=torch.tensor([[1, 16, 16]] * 2)
        )
    wanted = torch.stack(list(output.pooler_output)).numpy()
    assert_close(case.encode(patches), wanted, form)


@pytest.mark.parametrize("form", ["modern", "legacy-half", "modern-half"])
def test_features_equal_those_of_the_plain_form(models: Models, shape: str, form: str) -> None:
    patches = np.random.default_rng(4).normal(size=(2, 256, 1176)).astype(np.float32)
    assert_close(models(shape, form).features(patches), models(shape, "legacy").features(patches), form)


def test_large_residuals_of_the_tower_do_not_leave_half_precision(models: Models) -> None:
    """Squares of values like those seen near blocks 16 and 17 of trained towers pass 65504."""
    case = models("grouped", "modern-half")
    patches = 900 * np.random.default_rng(4).normal(size=(1, 256, 1176)).astype(np.float32)
    wide = models("grouped", "modern").encode(patches)
    assert np.isfinite(wide).all()
    assert_close(case.encode(patches), wide, "modern-half")
    assert_close(case.features(patches), models("grouped", "modern").features(patches), "modern-half")
