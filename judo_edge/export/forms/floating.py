"""Forms that keep floats: initializers as the graph wants them, the token table, the keys and values of the prefix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np

from judo_edge.core import Floats
from judo_edge.errors import CheckpointError
from judo_edge.export.forms.base import Array, Part, Piece, chunks
from judo_edge.export.graphs import Transform, WeightUse
from judo_edge.export.lora import MergedWeights


@dataclass(frozen=True)
class FloatForm:
    """An initializer in its graph's type, transposed where the graph holds (in, out)."""

    weights: MergedWeights
    use: WeightUse

    @property
    def label(self) -> str:
        """Return the type's name."""
        return self.use.dtype

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the initializer itself."""
        return (Part(self.use.name, self.use.dtype, self.use.shape),)

    def pieces(self) -> Iterator[Piece]:
        """Yield rows, or columns of the transposed matrix; CheckpointError for a value that the type cannot hold."""
        if self.use.transform is Transform.AS_IS:
            yield from _row_pieces(self.weights, self.use, self.use.dtype)
            return
        width, count = self.use.shape
        size = np.dtype(self.use.dtype).itemsize
        for start, rows in chunks(self.weights, self.use.tensor, (count, width), self.use.rows):
            values = _values_in(self.use.dtype, rows, self.use.tensor)
            yield Piece(0, start * size, np.ascontiguousarray(values.T), count * size)


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
        yield from _row_pieces(self.weights, self.use, self.label)


@dataclass(frozen=True)
class PrefixForm:
    """Exact keys and values of the tokens that every prompt begins with, (P, layers, 2, 1, kv_heads, head_dim)."""

    ids: tuple[int, ...]
    values: Floats = field(repr=False, compare=False)
    label: str = "float32"

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return the one array."""
        return (Part("prefix", "float32", self.values.shape),)

    def pieces(self) -> Iterator[Piece]:
        """Yield it as it is."""
        yield Piece(0, 0, np.ascontiguousarray(self.values, np.float32))


def _row_pieces(weights: MergedWeights, use: WeightUse, dtype: str) -> Iterator[Piece]:
    width = prod(use.shape[1:]) * np.dtype(dtype).itemsize
    for start, rows in chunks(weights, use.tensor, use.shape, use.rows):
        yield Piece(0, start * width, np.ascontiguousarray(_values_in(dtype, rows, use.tensor)))


def _values_in(dtype: str, rows: Floats, tensor: str) -> Array:
    """Return rows in a type; raises CheckpointError for a value beyond its range."""
    limit = np.finfo(dtype).max
    if dtype != "float32" and np.abs(rows).max(initial=0) > limit:
        raise CheckpointError(f"{tensor} holds values above {limit}", action=f"choose another form than {dtype}")
    return rows.astype(dtype, copy=False)
