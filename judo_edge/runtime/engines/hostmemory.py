"""Memory of the host for whatever a graph is bound to: what every backend on a CPU shares.

Knows addresses and bytes; runs nothing.
"""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any

import numpy as np

from judo_edge.runtime.engines.backend import Array, Bound

ALIGNMENT = 64
"""Bytes at which blocks begin: a cache line, and what the runtimes' own allocators give."""


class HostMemory:
    """Blocks that stay, arrays that are given, and outputs that are fetched; see `Backend`."""

    alignment = 1
    multiple = grid = 1

    def __init__(self) -> None:
        """Take no memory yet."""
        self._blocks: dict[str, Array] = {}
        self._results: dict[str, Array] = {}

    def capacity(self, wanted: int) -> int:
        """Return as many as are wanted, and those by which a last pass is widened."""
        return wanted + self.multiple - 1

    def reserve(self, name: str, num_bytes: int, clear: bool) -> int:
        """Return the address of a block; see `Backend.reserve`."""
        block = self._blocks.get(name)
        if block is None or block.nbytes < num_bytes:
            block = self._blocks[name] = _aligned(num_bytes)
        elif clear:
            block[:] = 0
        return int(block.ctypes.data)

    def load(self, name: str, content: Array) -> None:
        """Copy an array into a block."""
        raw = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        self._blocks[name][: raw.size] = raw

    def read(self, name: str, num_bytes: int, offset: int = 0) -> Array:
        """Return a copy of part of a block."""
        part: Array = self._blocks[name][offset : offset + num_bytes].copy()
        return part

    def given(self, name: str, content: Array) -> Bound:
        """Bind the array itself, copied only when it is not contiguous."""
        array = np.ascontiguousarray(content)
        return Bound(int(array.ctypes.data), array.shape, array.dtype, on_host=True, owner=array)

    def between(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Bound:
        """Return a block's beginning."""
        return Bound(self.reserve(name, prod(shape) * dtype.itemsize, clear=False), shape, dtype)

    def wanted(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Bound:
        """Return memory of the host, the same for a name while it is large enough."""
        num_bytes = prod(shape) * dtype.itemsize
        block = self._results.get(name)
        if block is None or block.nbytes < num_bytes:
            block = self._results[name] = _aligned(num_bytes)
        array = block[:num_bytes].view(dtype).reshape(shape)
        return Bound(int(array.ctypes.data), shape, dtype, on_host=True, owner=array)

    def fetched(self, bound: Bound) -> Array:
        """Return the memory that the graph has written."""
        assert isinstance(bound.owner, np.ndarray)
        return bound.owner

    def close(self) -> None:
        """Drop the memory."""
        self._blocks, self._results = {}, {}


def _aligned(num_bytes: int) -> Array:
    """Return cleared bytes that begin at a multiple of `ALIGNMENT`."""
    raw = np.zeros(num_bytes + ALIGNMENT, np.uint8)
    begin = -int(raw.ctypes.data) % ALIGNMENT
    return raw[begin : begin + max(num_bytes, 1)]


def array_at(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return the array that lies at an address of the host; whoever took the memory keeps it alive."""
    memory = (ctypes.c_uint8 * (prod(shape) * dtype.itemsize)).from_address(address)
    return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
