"""The stored forms of a tensor, made a few rows at a time: float32 as the graph wants it, int8 blocks, embedding rows.

Each form says which parts of a file it fills and then yields pieces for them, so that no form ever holds a whole large
tensor. Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats
from judo_edge.errors import CheckpointError
from judo_edge.export.graphs import LinearUse, Transform, WeightUse
from judo_edge.export.lora import MergedWeights
from judo_edge.export.quantize import blocks_from_rows, int8_names, num_blocks
from judo_edge.export.recipe import Int8Form

CHUNK_BYTES = 16 << 20
"""Size of the float32 rows that are worked on at a time; the peak is about five times as much."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Part:
    """One contiguous run of values in a file: an initializer, or a table."""

    name: str
    dtype: str
    """numpy's name of the type."""
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Return the size in the file."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


class Piece(NamedTuple):
    """Some values of one part."""

    part: int
    """Index of the part in the form."""
    offset: int
    """First byte within the part."""
    values: Array
    """C-contiguous, in the type of the part."""
    stride: int = 0
    """Bytes from one row of `values` to the next within the part; 0 when they follow each other."""


class StoredForm(Protocol):
    """A tensor on its way to disk."""

    @property
    def label(self) -> str:
        """Name in the manifest."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """What it fills."""
        ...

    def pieces(self) -> Iterator[Piece]:
        """Make the values; every byte of every part once."""
        ...


@dataclass(frozen=True)
class Float32Form:
    """An initializer in float32, transposed where the graph holds (in, out)."""

    weights: MergedWeights
    use: WeightUse
    label: str = "float32"

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the initializer itself."""
        return (Part(self.use.name, "float32", self.use.shape),)

    def pieces(self) -> Iterator[Piece]:
        """Yield rows, or columns of the transposed matrix."""
        if self.use.transform is Transform.AS_IS:
            yield from _row_pieces(self.weights, self.use.tensor, self.use.shape, "float32")
            return
        width, count = self.use.shape
        for start, rows in _chunks(self.weights, self.use.tensor, (count, width)):
            yield Piece(0, start * 4, np.ascontiguousarray(rows.T), count * 4)


@dataclass(frozen=True)
class Int8BlockForm:
    """A linear layer as int8 blocks and their scales."""

    weights: MergedWeights
    linear: LinearUse
    form: Int8Form

    @property
    def label(self) -> str:
        """Return the form's name with its block size."""
        return f"int8-block{self.form.block}"

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return weights and scales."""
        weights, scales = int8_names(self.linear.weight)
        rows, blocks = self.linear.out_features, num_blocks(self.linear.in_features, self.form.block)
        return Part(weights, "uint8", (rows, blocks, self.form.block)), Part(scales, "float32", (rows * blocks,))

    def pieces(self) -> Iterator[Piece]:
        """Yield the blocks of some rows, then their scales."""
        shape = (self.linear.out_features, self.linear.in_features)
        blocks = num_blocks(self.linear.in_features, self.form.block)
        for start, rows in _chunks(self.weights, self.linear.tensor, shape):
            quantized, scales = blocks_from_rows(rows, self.form.block)
            yield Piece(0, start * blocks * self.form.block, quantized)
            yield Piece(1, start * blocks * 4, scales)


@dataclass(frozen=True)
class TableForm:
    """The token embedding table, rows as they are, float32 or float16."""

    weights: MergedWeights
    use: WeightUse
    label: Literal["float32", "float16"]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the table."""
        return (Part(self.use.name, self.label, self.use.shape),)

    def pieces(self) -> Iterator[Piece]:
        """Yield rows; raises CheckpointError for a value that float16 cannot hold."""
        yield from _row_pieces(self.weights, self.use.tensor, self.use.shape, self.label)


def _row_pieces(weights: MergedWeights, tensor: str, shape: tuple[int, ...], dtype: str) -> Iterator[Piece]:
    width = prod(shape[1:]) * np.dtype(dtype).itemsize
    limit = np.finfo(dtype).max
    for start, rows in _chunks(weights, tensor, shape):
        if dtype != "float32" and np.abs(rows).max(initial=0) > limit:
            raise CheckpointError(f"{tensor} holds values above {limit}", action=f"choose another form than {dtype}")
        yield Piece(0, start * width, np.ascontiguousarray(rows, dtype=dtype))


def _chunks(weights: MergedWeights, tensor: str, shape: tuple[int, ...]) -> Iterator[tuple[int, Floats]]:
    """Yield (first row, rows as float32 in `shape`) of a merged tensor."""
    count, width = shape[0], prod(shape[1:])
    step = max(1, CHUNK_BYTES // (4 * max(1, width)))
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield start, weights.rows(tensor, start, stop).reshape(stop - start, *shape[1:])
