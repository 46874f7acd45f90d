"""Feature distances of made-up photos: where a defect is, is where the distance is, and nothing else moves it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from judo_edge.core import Floats
from judo_edge.errors import EngineError
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.features import ANYWHERE, SAME_PLACE, distance_map

SIDE, WIDTH = 8, 24
SCENE = np.random.default_rng(0).standard_normal((SIDE, SIDE, WIDTH)).astype(np.float32)
"""A part whose every place looks different."""


def embedding(scene: Floats, noise: float = 0, seed: int = 1) -> Embedding:
    blurred = scene + noise * np.random.default_rng(seed).standard_normal(scene.shape).astype(np.float32)
    return Embedding(np.zeros((4, 3), np.float32), blurred.reshape(-1, WIDTH))


def with_defect(scene: Floats, row: int, col: int) -> Floats:
    changed = scene.copy()
    changed[row, col] = -scene[row, col]
    return changed


@pytest.mark.parametrize("radius", [SAME_PLACE, 1, ANYWHERE])
def test_a_photo_is_no_distance_from_itself(radius: int | None) -> None:
    found = distance_map(embedding(SCENE), [embedding(SCENE)], radius)
    assert found.shape == (SIDE, SIDE) and found.dtype == np.float32
    np.testing.assert_allclose(found, 0, atol=1e-6)


@pytest.mark.parametrize("radius", [SAME_PLACE, 1, ANYWHERE])
def test_a_defect_stands_where_it_is(radius: int | None) -> None:
    found = distance_map(embedding(with_defect(SCENE, 2, 5)), [embedding(SCENE)], radius)
    assert np.unravel_index(found.argmax(), found.shape) == (2, 5)
    assert found.max() > 0.1 and np.sort(found.ravel())[-2] < 1e-6
    if radius == SAME_PLACE:
        assert found.max() == pytest.approx(2)


def test_distances_are_those_of_the_formula() -> None:
    one, other = (np.random.default_rng(seed).standard_normal((9, 5)).astype(np.float32) for seed in (1, 2))
    found = distance_map(Embedding(one), [Embedding(other)])
    for place in range(9):
        cosine = one[place] @ other[place] / math.sqrt(one[place] @ one[place] * (other[place] @ other[place]))
        assert found.ravel()[place] == pytest.approx(1 - cosine, abs=1e-5)


@pytest.mark.parametrize(("shift", "radius"), [((0, 1), 1), ((1, 1), 1), ((2, -1), 2), ((3, 2), ANYWHERE)])
def test_a_shift_costs_nothing_within_reach(shift: tuple[int, int], radius: int | None) -> None:
    shifted = embedding(np.roll(SCENE, shift, axis=(0, 1)))
    inside = distance_map(shifted, [embedding(SCENE)], radius)[3:-3, 3:-3]
    np.testing.assert_allclose(inside, 0, atol=1e-6)
    reach = max(map(abs, shift)) - 1
    assert distance_map(shifted, [embedding(SCENE)], reach)[3:-3, 3:-3].min() > 0.05


def test_reach_is_a_square_around_the_place() -> None:
    wrapped = distance_map(embedding(np.roll(SCENE, 1, axis=1)), [embedding(SCENE)], 1)
    np.testing.assert_allclose(wrapped[:, 1:], 0, atol=1e-6)
    assert wrapped[:, 0].min() > 0.05, "the photo's other border is out of reach"


@pytest.mark.parametrize("radius", [SAME_PLACE, 1, ANYWHERE])
def test_the_nearest_reference_counts(radius: int | None) -> None:
    query = embedding(SCENE)
    far, near = embedding(SCENE, 0.5, 2), embedding(SCENE, 0.1, 3)
    both = distance_map(query, [far, near], radius)
    one, other = distance_map(query, [far], radius), distance_map(query, [near], radius)
    np.testing.assert_array_equal(both, np.minimum(one, other))
    np.testing.assert_array_equal(both, distance_map(query, [near, far], radius))
    assert not np.array_equal(both, one)


def test_rows_are_compared_where_there_are_no_features() -> None:
    rows = SCENE[:4, :4].reshape(16, WIDTH)
    changed = rows.copy()
    changed[6] *= -1
    found = distance_map(Embedding(changed), [Embedding(rows)])
    assert found.shape == (4, 4) and found[1, 2] == pytest.approx(2) and np.sort(found.ravel())[-2] < 1e-6


def test_length_of_features_does_not_matter() -> None:
    scaled = SCENE * np.random.default_rng(5).uniform(0.1, 9, (SIDE, SIDE, 1)).astype(np.float32)
    np.testing.assert_allclose(distance_map(embedding(scaled), [embedding(SCENE)]), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("query", "references", "message"),
    [
        (embedding(SCENE), [], "no reference"),
        (Embedding(SCENE.reshape(-1, WIDTH)), [Embedding(SCENE[:4, :4].reshape(-1, WIDTH))], "by this engine"),
        (embedding(SCENE), [embedding(SCENE), Embedding(np.zeros((4, 3), np.float32))], "one square shape"),
        (Embedding(np.zeros((6, 3), np.float32)), [embedding(SCENE)], "one square shape"),
        (embedding(np.where(SCENE > 2, np.nan, SCENE)), [embedding(SCENE)], "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(query: Embedding, references: list[Embedding], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        distance_map(query, references)
