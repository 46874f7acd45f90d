"""Linear layers as integers and scales, in the two layouts that runtimes read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from judo_edge.core import Floats
from judo_edge.errors import CheckpointError
from judo_edge.export.forms.base import Part, Piece, chunks
from judo_edge.export.graphs import LinearUse
from judo_edge.export.lora import MergedWeights
from judo_edge.export.quantize import (
    Grid,
    blocks_from_codes,
    columns_from_codes,
    compensated_codes,
    compensation_from_gram,
    nibbles_from_codes,
    part_names,
    quantized,
)
from judo_edge.export.quantize.grid import Codes

Gram = Callable[[], Floats | None]
"""Reads the second moments (in, in) of a layer's inputs; called once, when its turn comes."""
Rounding = Callable[[Floats], tuple[Codes, Floats]]


@dataclass(frozen=True)
class QuantizedForm(ABC):
    """A linear layer as integers, some rows at a time; the layouts below say how they are stored."""

    weights: MergedWeights
    linear: LinearUse
    grid: Grid
    label: str
    factor: Floats | None = field(default=None, repr=False, compare=False)
    """(in,) what the columns are multiplied by before they are rounded; the graph divides the inputs by it."""
    gram: Gram | None = field(default=None, repr=False, compare=False)

    @property
    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """Return weights and scales."""

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """Yield both, some rows at a time."""

    def codes(self) -> Iterator[tuple[int, Codes, Floats]]:
        """Yield (first row, integers (n, in), scales (n, blocks)); raises CheckpointError that names the tensor."""
        shape, rounding = (self.linear.out_features, self.linear.in_features), self._rounding()
        for start, rows in chunks(self.weights, self.linear.tensor, shape, self.linear.rows):
            scaled = rows if self.factor is None else rows * self.factor
            try:
                yield start, *rounding(scaled)
            except CheckpointError as error:
                raise CheckpointError(f"{self.linear.tensor}: {error.found}", error.wanted, error.action) from error

    def _rounding(self) -> Rounding:
        """Return how rows are rounded: to the nearest, or with compensation where second moments are known."""
        gram = self.gram() if self.gram else None
        if gram is None:
            return lambda rows: quantized(rows, self.grid)
        compensation = compensation_from_gram(gram, self.factor)
        return lambda rows: compensated_codes(rows, compensation, self.grid)

    @property
    def _scale_size(self) -> int:
        return np.dtype(self.grid.scale_type).itemsize


class NBitsForm(QuantizedForm):
    """For MatMulNBits: blocks of each output one after the other."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return weights and scales."""
        weights, scales = part_names(self.linear.weight, self.grid.bits)
        rows, blocks = self.linear.out_features, self.grid.num_scales(self.linear.in_features)
        shape = (rows, blocks, self.grid.block * self.grid.bits // 8)
        return Part(weights, "uint8", shape), Part(scales, self.grid.scale_type, (rows * blocks,))

    def pieces(self) -> Iterator[Piece]:
        """Yield the blocks of some rows, then their scales."""
        for start, codes, scales in self.codes():
            packed = blocks_from_codes(codes, self.grid)
            yield Piece(0, start * packed[0].nbytes, packed)
            yield Piece(1, start * scales.shape[1] * self._scale_size, scales.astype(self.grid.scale_type))


class DequantizedForm(QuantizedForm):
    """For DequantizeLinear before a MatMul: (in, out) as int8, or as int4 with two neighbouring outputs in a byte."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return weights and scales; the outputs of an int4 matrix are even (`choose` sees to it)."""
        weights, scales = part_names(self.linear.weight, self.grid.bits)
        size, rows = self.linear.in_features, self.linear.out_features
        stored = (
            Part(weights, "int8", (size, rows)) if self.grid.bits == 8 else Part(weights, "uint8", (size, rows // 2))
        )
        shape = (self.grid.num_scales(size), rows) if self.grid.block else (rows,)
        return stored, Part(scales, self.grid.scale_type, shape)

    def pieces(self) -> Iterator[Piece]:
        """Yield columns of the transposed matrix, then of its scales."""
        size, bits = self._scale_size, self.grid.bits
        for start, codes, scales in self.codes():
            columns = columns_from_codes(codes)
            stored = columns if bits == 8 else nibbles_from_codes(columns)
            yield Piece(0, start * bits // 8, stored, self.linear.out_features * bits // 8)
            values = np.ascontiguousarray(scales.T.astype(self.grid.scale_type))
            yield Piece(1, start * size, values, self.linear.out_features * size)
