"""Rounding and layouts: every kernel against a few plain lines, and back again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judo_edge.core import Floats
from judo_edge.errors import CheckpointError, ConfigError
from judo_edge.export.quantize import (
    Grid,
    blocks_from_codes,
    blocks_from_rows,
    codes_from_blocks,
    codes_from_nibbles,
    codes_from_rows,
    columns_from_codes,
    compensated_codes,
    compensation_from_gram,
    nibbles_from_codes,
    quantized,
    rows_from_blocks,
    rows_from_codes,
    rows_from_columns,
    scales_from_rows,
    smoothing_from_vector,
)

CASES = [(256, 128, 64), (704, 128, 33), (704, 32, 33), (44, 32, 7), (3420, 128, 16), (1, 16, 1), (128, 256, 5)]


def random_rows(rows: int, width: int, seed: int = 0) -> Floats:
    generator = np.random.default_rng(seed)
    scale = np.exp(generator.normal(0, 1, (rows, 1)))
    return (generator.standard_normal((rows, width)) * scale).astype(np.float32)


def plainly_quantized(rows: Floats, bits: int, block: int, scale_type: str) -> tuple[np.ndarray, np.ndarray]:
    """Round one block after the other, in plain steps: the independent quantizer of these tests."""
    limit, block = 2 ** (bits - 1) - 1, block or rows.shape[1]
    codes = np.zeros(rows.shape, np.int64)
    scales = np.zeros((len(rows), -(-rows.shape[1] // block)), np.float32)
    for i, row in enumerate(rows):
        for j in range(scales.shape[1]):
            part = row[j * block : (j + 1) * block]
            scale = np.float32(np.dtype(scale_type).type(np.abs(part).max() / np.float32(limit)))
            scales[i, j] = scale = scale if scale > 0 else np.float32(1)
            codes[i, j * block : (j + 1) * block] = np.clip(np.round(part / scale), -limit, limit)
    return codes, scales


grids = st.builds(
    Grid,
    bits=st.sampled_from([4, 8]),
    block=st.sampled_from([0, 16, 32]),
    scale_type=st.sampled_from(["float32", "float16"]),
)


@settings(max_examples=60, deadline=None)
@given(grids, st.integers(1, 9), st.integers(1, 70), st.integers(0, 1000))
def test_rounding_equals_plain_steps(grid: Grid, count: int, width: int, seed: int) -> None:
    rows = random_rows(count, width, seed)
    rows[seed % count] *= seed % 2  # now and then a row of zeros
    codes, scales = quantized(rows, grid)
    wanted = plainly_quantized(rows, grid.bits, grid.block, grid.scale_type)
    np.testing.assert_array_equal(codes, wanted[0])
    np.testing.assert_array_equal(scales, wanted[1])
    assert codes.dtype == np.int8 and scales.dtype == np.float32
    step = np.repeat(scales, grid.width(width), axis=1)[:, :width]
    slack = 0.5001 if grid.scale_type == "float32" else 0.5001 + grid.limit * 2**-11
    assert (np.abs(rows_from_codes(codes, scales, grid) - rows) <= step * slack).all()


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([4, 8]), st.sampled_from([16, 64]), st.integers(1, 5), st.integers(1, 140), st.integers(0, 99))
def test_layouts_come_back_as_they_went(bits: int, block: int, count: int, width: int, seed: int) -> None:
    grid = Grid(4 if bits == 4 else 8, block)
    codes, scales = quantized(random_rows(2 * count, width, seed), grid)
    packed = blocks_from_codes(codes, grid)
    assert packed.shape == (2 * count, -(-width // block), block * bits // 8) and packed.dtype == np.uint8
    np.testing.assert_array_equal(codes_from_blocks(packed, grid, width), codes)
    columns = columns_from_codes(codes)
    if bits == 4:
        nibbles = nibbles_from_codes(columns)
        assert nibbles.nbytes == codes.size // 2
        columns = codes_from_nibbles(nibbles)
    np.testing.assert_array_equal(rows_from_columns(columns, scales.T, grid), rows_from_codes(codes, scales, grid))


def test_first_neighbour_lies_in_the_low_half_of_a_byte() -> None:
    assert nibbles_from_codes(np.array([[1, -2, -8, 7]], np.int8)).tolist() == [[0xE1, 0x78]]
    grid = Grid(4, 16)
    codes = np.array([[-7, 7] + [0] * 14], np.int8)
    assert blocks_from_codes(codes, grid)[0, 0, :2].tolist() == [0xF1, 0x88]


@pytest.mark.parametrize(("width", "block", "count"), CASES)
def test_blocks_stand_for_the_rows_within_half_a_step(width: int, block: int, count: int) -> None:
    rows = random_rows(count, width)
    weights, scales = blocks_from_rows(rows, block)
    assert weights.shape == (count, -(-width // block), block) and weights.dtype == np.uint8
    assert scales.shape == weights.shape[:2] and scales.dtype == np.float32
    assert weights.min() >= 1 and weights.max() <= 255
    step = np.repeat(scales, block, axis=1)[:, :width]
    assert (np.abs(rows_from_blocks(weights, scales, width) - rows) <= step * 0.5001).all()


def test_padding_is_the_zero_point_and_does_not_change_scales() -> None:
    rows = random_rows(3, 40)
    weights, scales = blocks_from_rows(rows, 32)
    assert (weights[:, 1, 8:] == 128).all()
    np.testing.assert_array_equal(scales[:, 1], np.abs(rows[:, 32:]).max(axis=1) / np.float32(127))


def test_zeros_and_tiny_values_stay_finite() -> None:
    rows = np.zeros((2, 32), np.float32)
    rows[1, 3] = 1e-44
    weights, scales = blocks_from_rows(rows, 32)
    assert np.isfinite(scales).all() and (scales > 0).all()
    np.testing.assert_allclose(rows_from_blocks(weights, scales, 32), rows, atol=1e-40)


def test_scale_that_float16_cannot_hold_is_refused() -> None:
    with pytest.raises(CheckpointError, match="a scale above float16's"):
        scales_from_rows(np.full((1, 4), 1e8, np.float32), Grid(8, scale_type="float16"))


def test_search_lowers_the_error_of_int4_and_never_raises_it() -> None:
    rows = random_rows(64, 256)
    rows[:, 5] *= 4  # an outlier in the first block of each row
    errors = []
    for is_searched in (False, True):
        grid = Grid(4, 128, "float16", is_searched)
        codes, scales = quantized(rows, grid)
        difference = (rows_from_codes(codes, scales, grid) - rows).reshape(64, 2, 128)
        errors.append((difference**2).sum(axis=2))
    assert (errors[1] <= errors[0] * 1.00001).all()
    assert errors[1].sum() < 0.97 * errors[0].sum()


def inputs_with_outliers(count: int, width: int) -> Floats:
    generator = np.random.default_rng(3)
    mixing = generator.standard_normal((width, width)) * 0.3 + np.eye(width) * 2
    return (generator.standard_normal((count, width)) @ mixing).astype(np.float32)


@pytest.mark.parametrize(("bits", "block"), [(8, 0), (4, 32), (4, 128)])
def test_compensated_rounding_lowers_the_output_error(bits: int, block: int) -> None:
    grid = Grid(4 if bits == 4 else 8, block, "float16")
    x, rows = inputs_with_outliers(2000, 300), random_rows(50, 300)
    compensation = compensation_from_gram((x.T @ x / len(x)).astype(np.float32))
    losses = []
    for codes, scales in (quantized(rows, grid), compensated_codes(rows, compensation, grid)):
        assert codes.shape == rows.shape and scales.shape == (50, grid.num_scales(300))
        losses.append(np.square(x @ (rows_from_codes(codes, scales, grid) - rows).T).sum())
    assert losses[1] < 0.8 * losses[0]


def test_compensation_of_independent_inputs_is_plain_rounding() -> None:
    rows, grid = random_rows(9, 200), Grid(4, 64)
    compensation = compensation_from_gram(np.diag(np.linspace(0, 3, 200)).astype(np.float32))
    for found, wanted in zip(compensated_codes(rows, compensation, grid), quantized(rows, grid), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_compensation_equals_the_slow_way() -> None:
    """One weight after the other, each error spread by the inverse of what is left of the moments."""
    x, rows, grid = inputs_with_outliers(400, 140), random_rows(3, 140), Grid(4, 32)
    gram = (x.T @ x / len(x)).astype(np.float32)
    codes, scales = compensated_codes(rows, compensation_from_gram(gram), grid)
    moments = gram.astype(np.float64)
    moments += np.eye(140) * 0.01 * np.diagonal(moments).mean()
    rest = rows.astype(np.float64)
    for i in range(140):
        if i % 32 == 0:
            scale = np.abs(rest[:, i : i + 32]).max(axis=1) / 7
            np.testing.assert_allclose(scales[:, i // 32], scale, rtol=1e-4)
        inverse = np.linalg.inv(moments[i:, i:])
        error = (rest[:, i] - codes[:, i] * scales[:, i // 32]) / inverse[0, 0]
        assert (np.abs(rest[:, i] / scales[:, i // 32] - codes[:, i]) <= 0.51).all() or np.abs(codes[:, i]).max() == 7
        rest[:, i:] -= error[:, None] * inverse[0]


def test_compensation_sees_the_inputs_of_multiplied_weights() -> None:
    x, factor = inputs_with_outliers(400, 40), np.linspace(0.5, 2, 40, dtype=np.float32)
    moments = [(y.T @ y / len(y)).astype(np.float32) for y in (x, x / factor)]
    found = compensation_from_gram(moments[0], factor).factor
    np.testing.assert_allclose(found, compensation_from_gram(moments[1]).factor, rtol=2e-3, atol=1e-6)


def test_bad_moments_are_refused() -> None:
    with pytest.raises(CheckpointError, match="second moments"):
        compensation_from_gram(-np.eye(4, dtype=np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_smoothing_cancels(dtype: str) -> None:
    vector = np.exp(np.random.default_rng(0).normal(0, 1, 50)).astype(np.float32)
    smoothing = smoothing_from_vector(vector, "float16" if dtype == "float16" else "float32", "w")
    assert smoothing is not None and smoothing.multiplier.dtype == dtype and smoothing.factor.dtype == np.float32
    np.testing.assert_allclose(smoothing.multiplier.astype(np.float64) * smoothing.factor, 1, rtol=2e-7)
    np.testing.assert_allclose(smoothing.factor, vector, rtol=1e-6 if dtype == "float32" else 1e-3)


def test_smoothing_of_ones_is_none_and_bad_vectors_are_refused() -> None:
    assert smoothing_from_vector(np.ones(4, np.float32), "float16", "w") is None
    for bad in (0.0, -1.0, np.nan, 1e6, 1e-6):
        with pytest.raises(ConfigError, match=r"inputs of mlp\.down"):
            smoothing_from_vector(np.array([1, bad], np.float32), "float16", "mlp.down")


def test_codes_of_given_scales() -> None:
    codes = codes_from_rows(np.array([[1.0, -300.0, 2.5]], np.float32), np.ones((1, 1), np.float32), Grid())
    assert codes.tolist() == [[1, -127, 2]]
