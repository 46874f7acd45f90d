"""What every stored form is: parts of a file, pieces that fill them, and rows read a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats
from judo_edge.export.graphs import Rows
from judo_edge.export.lora import MergedWeights

CHUNK_BYTES = 16 << 20
"""Size of the float32 rows that are worked on at a time; the peak is about five times as much."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Part:
    """One contiguous run of values in a file: an initializer, or a table."""

    name: str
    dtype: str
    """numpy's name of the type; two integers of 4 bits count as one uint8."""
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


def chunks(
    weights: MergedWeights, tensor: str, shape: tuple[int, ...], part: Rows | None = None
) -> Iterator[tuple[int, Floats]]:
    """Yield (first row, rows as float32 in `shape`) of a merged tensor, or of a part of its rows.

    `shape` is that of the part. Each chunk starts at an even row.
    """
    count, width = shape[0], prod(shape[1:])
    step = max(2, CHUNK_BYTES // (4 * max(1, width)) // 2 * 2)
    first = part.start if part else 0
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield start, weights.rows(tensor, first + start, first + stop).reshape(stop - start, *shape[1:])
