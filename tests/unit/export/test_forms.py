"""Forms: what streams out, some rows at a time, equals a plain quantization of the whole matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judo_edge.core import Floats
from judo_edge.errors import CheckpointError
from judo_edge.export.forms import DequantizedForm, FloatForm, NBitsForm, PrefixForm, base
from judo_edge.export.graphs import LinearUse, Rows, Transform, WeightUse
from judo_edge.export.quantize import Grid, compensated_codes, compensation_from_gram
from tests.forms import filled

NAME = "model.layers.0.mlp.up_proj.weight"
FloatTypes = st.sampled_from(["float32", "float16"])
Seeds = st.integers(0, 10_000)


class Matrix:
    """Stands in for merged weights: one matrix in memory, read row by row."""

    def __init__(self, rows: Floats) -> None:
        self.values, self.reads = rows, 0

    def rows(self, name: str, start: int, stop: int) -> Floats:
        assert name == NAME
        self.reads += 1
        return self.values[start:stop].copy()


def matrix(count: int, width: int, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    return Matrix(
        (generator.standard_normal((count, width)) * np.exp(generator.normal(0, 1, (count, 1)))).astype(np.float32)
    )


def linear_of(count: int, width: int, part: Rows | None = None) -> LinearUse:
    return LinearUse("up", NAME, None, NAME, width, count, part)


def plain_codes(rows: Floats, bits: int, block: int, scale_type: str) -> tuple[np.ndarray, np.ndarray]:
    """Round to the nearest, one block after the other: the independent quantizer."""
    limit = 2 ** (bits - 1) - 1
    codes, scales = np.zeros(rows.shape, np.int8), np.zeros((len(rows), -(-rows.shape[1] // block)), np.float32)
    for j in range(scales.shape[1]):
        part = rows[:, j * block : (j + 1) * block]
        scale = (np.abs(part).max(axis=1) / np.float32(limit)).astype(scale_type).astype(np.float32)
        scales[:, j] = np.where(scale == 0, 1, scale)
        codes[:, j * block : (j + 1) * block] = np.clip(np.rint(part / scales[:, j : j + 1]), -limit, limit)
    return codes, scales


def plain_nibbles(codes: np.ndarray) -> np.ndarray:
    """Pack neighbours of the flattened values, the first in the low half of a byte."""
    flat = [int(code) & 15 for code in codes.reshape(-1)]
    return np.array([low | high << 4 for low, high in zip(flat[::2], flat[1::2], strict=True)], np.uint8)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 23), st.integers(1, 40), Seeds, FloatTypes, st.sampled_from([0, 1, 200, 1 << 20]), st.booleans())
def test_int8_channels_equal_a_plain_quantization(
    count: int, width: int, seed: int, scale_type: Any, chunk: int, is_scaled: bool
) -> None:
    source, factor = matrix(count, width, seed), np.linspace(0.5, 2, width, dtype=np.float32)
    form = DequantizedForm(
        source, linear_of(count, width), Grid(8, 0, scale_type), "int8-channel", factor if is_scaled else None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "CHUNK_BYTES", chunk)
        found = filled(form)
    codes, scales = plain_codes(source.values * factor if is_scaled else source.values, 8, width, scale_type)
    np.testing.assert_array_equal(found[0], codes.T)
    np.testing.assert_array_equal(found[1], scales[:, 0].astype(scale_type))
    assert found[1].dtype == scale_type and source.reads == (
        1 if chunk > 4000 else -(-count // max(2, chunk // (4 * width) // 2 * 2))
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), Seeds, FloatTypes, st.sampled_from([0, 300, 1 << 20]))
def test_int4_columns_equal_a_plain_quantization(
    half: int, blocks: int, seed: int, scale_type: Any, chunk: int
) -> None:
    count, width, block = 2 * half, 16 * blocks, 16
    source = matrix(count, width, seed)
    form = DequantizedForm(source, linear_of(count, width), Grid(4, block, scale_type), "int4-block16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "CHUNK_BYTES", chunk)
        found = filled(form)
    codes, scales = plain_codes(source.values, 4, block, scale_type)
    np.testing.assert_array_equal(found[0].reshape(-1), plain_nibbles(codes.T))
    np.testing.assert_array_equal(found[1], scales.T.astype(scale_type))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 23), st.integers(1, 90), Seeds, st.sampled_from([4, 8]), st.sampled_from([0, 300, 1 << 20]))
def test_nbits_blocks_equal_a_plain_quantization(count: int, width: int, seed: int, bits: Any, chunk: int) -> None:
    source, block = matrix(count, width, seed), 32
    form = NBitsForm(source, linear_of(count, width), Grid(bits, block), "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "CHUNK_BYTES", chunk)
        found = filled(form)
    codes, scales = plain_codes(source.values, bits, block, "float32")
    shift = 2 ** (bits - 1)
    padded = np.full((count, scales.shape[1] * block), shift, np.int64)
    padded[:, :width] = codes.astype(np.int64) + shift
    wanted = padded.astype(np.uint8) if bits == 8 else plain_nibbles(padded)
    np.testing.assert_array_equal(found[0].reshape(-1), wanted.reshape(-1))
    np.testing.assert_array_equal(found[1], scales.reshape(-1))


@pytest.mark.parametrize("kind", ["int8", "int4", "float16", "nbits"])
def test_part_of_a_head_is_made_of_its_rows(kind: str) -> None:
    source, part = matrix(30, 16, 1), Rows(12, 22, 30)
    whole = Matrix(source.values[12:22])
    grid = Grid(8, 0, "float16") if kind == "int8" else Grid(4, 16, "float16")
    if kind == "float16":
        uses = [WeightUse(NAME, NAME, Transform.TRANSPOSE, (16, 10), rows, "float16") for rows in (part, None)]
        forms: list[Any] = [FloatForm(s, use) for s, use in zip((source, whole), uses, strict=True)]  # type: ignore[arg-type]
    else:
        make = NBitsForm if kind == "nbits" else DequantizedForm
        forms = [make(s, linear_of(10, 16, rows), grid, "") for s, rows in ((source, part), (whole, None))]  # type: ignore[arg-type]
    for one, other in zip(*(filled(form) for form in forms), strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 23), st.integers(1, 40), Seeds, st.sampled_from([0, 300, 1 << 20]), st.booleans())
def test_float16_equals_a_plain_cast(count: int, width: int, seed: int, chunk: int, is_transposed: bool) -> None:
    source = matrix(count, width, seed)
    shape, transform = ((width, count), Transform.TRANSPOSE) if is_transposed else ((count, width), Transform.AS_IS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "CHUNK_BYTES", chunk)
        (found,) = filled(FloatForm(source, WeightUse(NAME, NAME, transform, shape, None, "float16")))
    wanted = source.values.astype(np.float16)
    np.testing.assert_array_equal(found, wanted.T if is_transposed else wanted)


def test_value_beyond_float16_is_named() -> None:
    source = Matrix(np.full((2, 4), 1e6, np.float32))
    use = WeightUse(NAME, NAME, Transform.TRANSPOSE, (4, 2), None, "float16")
    with pytest.raises(CheckpointError, match=NAME):
        filled(FloatForm(source, use))  # type: ignore[arg-type]
    huge = Matrix(np.full((2, 4), 1e9, np.float32))
    with pytest.raises(CheckpointError, match=NAME):
        filled(DequantizedForm(huge, linear_of(2, 4), Grid(8, 0, "float16"), ""))  # type: ignore[arg-type]


@pytest.mark.parametrize("chunk", [4000, 1 << 20])
def test_second_moments_are_used_for_the_multiplied_weights(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(base, "CHUNK_BYTES", chunk)
    source, factor, grid = matrix(20, 64, 4), np.linspace(0.5, 2, 64, dtype=np.float32), Grid(4, 16)
    x = np.random.default_rng(0).standard_normal((300, 64)) @ np.random.default_rng(1).standard_normal((64, 64))
    gram = (x.T @ x / 300).astype(np.float32)
    form = DequantizedForm(source, linear_of(20, 64), grid, "", factor, lambda: gram)
    rows = [codes for _, codes, _ in form.codes()]
    wanted, _ = compensated_codes(source.values * factor, compensation_from_gram(gram, factor), grid)
    assert (np.concatenate(rows) != wanted).mean() < 0.01, "products of other sizes may round differently at a tie"
    plain, _ = plain_codes(source.values * factor, 4, 16, "float32")
    assert (plain != wanted).mean() > 0.1


def test_prefix_is_stored_as_it_is() -> None:
    values = np.random.default_rng(0).standard_normal((3, 2, 2, 1, 2, 8)).astype(np.float32)
    (found,) = filled(PrefixForm((5, 6, 7), values))
    np.testing.assert_array_equal(found, values)
