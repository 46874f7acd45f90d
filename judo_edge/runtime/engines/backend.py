"""What the engines ask of a backend: memory with addresses, and graphs run on it. Nothing about decoding.

A graph's input or output is bound to an address, so that one pass can write where the next one reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Bound(NamedTuple):
    """A place in memory as a graph sees it."""

    address: int
    """In the memory that the graphs run on, or the host's."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    on_host: bool = False
    owner: object = None
    """What keeps the memory alive, where no one else does."""


Bindings = dict[str, Bound]


class Call(NamedTuple):
    """One run of one graph."""

    graph: str
    inputs: Mapping[str, Bound]
    outputs: Mapping[str, Bound]


class Backend(Protocol):
    """Memory and graphs of one device. Every failure is raised as EngineError."""

    @property
    def alignment(self) -> int:
        """Bytes that every bound address must be a multiple of."""
        ...

    @property
    def max_images(self) -> int:
        """How many photos are encoded at once, 0 for as many as come."""
        ...

    @property
    def max_batch(self) -> int:
        """How many prompts one pass of the decoder can read."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of new positions that run faster than those between them, ascending; empty when all are alike."""
        ...

    @property
    def multiple(self) -> int:
        """Numbers of rows are made multiples of this, so that a row's result does not depend on how many there are."""
        ...

    @property
    def grid(self) -> int:
        """Passes begin at multiples of this behind the prefix, so that few shapes are met; 1 for where they must."""
        ...

    def capacity(self, wanted: int) -> int:
        """Return for how many positions the cache is made when `wanted` are asked for."""
        ...

    def reserve(self, name: str, num_bytes: int, clear: bool) -> int:
        """Return the address of at least `num_bytes` that stay until the backend is closed.

        The memory of a name is kept while it is large enough; `clear` fills it with zeros.
        """
        ...

    def load(self, name: str, content: Array) -> None:
        """Copy an array to the beginning of a reserved memory."""
        ...

    def read(self, name: str, num_bytes: int, offset: int = 0) -> Array:
        """Return a copy (num_bytes,) uint8 of part of a reserved memory."""
        ...

    def given(self, name: str, content: Array) -> Bound:
        """Bring a small input to where graphs read it; valid until the same name is given again."""
        ...

    def between(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Bound:
        """Return memory for what one graph hands to the next."""
        ...

    def wanted(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Bound:
        """Return memory for an output that `fetched` will be asked for."""
        ...

    def run(self, calls: Sequence[Call]) -> None:
        """Run graphs one after the other."""
        ...

    def fetched(self, bound: Bound) -> Array:
        """Return the content of a wanted output after the run; valid until the next run."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...
