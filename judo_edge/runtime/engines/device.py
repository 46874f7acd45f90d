"""Memory of a CUDA device by name: caches, rows between graphs, and inputs and outputs with their twin on the host.

A name keeps its address until more is asked of it, which captured graphs rely on. Where device and host share their
memory the twin is the memory itself, and nothing is copied.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from judo_edge.runtime.engines.backend import Array, Bound
from judo_edge.runtime.engines.cuda import Cuda, HostMemory

ALIGNMENT = 256
"""Bytes: what TensorRT wants of every address it is given (IExecutionContext.set_tensor_address)."""


class DeviceMemory:
    """All memory of one engine beside TensorRT's own."""

    def __init__(self, cuda: Cuda) -> None:
        """Take nothing yet."""
        self._cuda = cuda
        self._blocks: dict[str, tuple[int, int]] = {}
        self._twins: dict[str, HostMemory] = {}
        self.generation = 0
        """Grows when an address changes: what was captured before must not be launched any more."""

    def block(self, name: str, num_bytes: int, clear: bool = False) -> int:
        """Return the address of at least `num_bytes` of the device; the same for a name while they suffice."""
        address, size = self._blocks.get(name, (0, 0))
        if size < num_bytes:
            self._forget(name)
            size = _rounded(num_bytes)
            address = self._cuda.allocate(size)
            self._blocks[name] = (address, size)
        if clear:
            self._cuda.clear(address, size)
        return address

    def load(self, name: str, content: Array) -> None:
        """Copy an array to the beginning of a block, and wait until it is there."""
        address, size = self._blocks[name]
        raw = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        if raw.nbytes > size:
            raise ValueError(f"{raw.nbytes} bytes do not fit into the {size} of {name}")
        self._cuda.upload(address, raw)
        self._cuda.synchronize()

    def read(self, name: str, num_bytes: int, offset: int) -> Array:
        """Return a copy (num_bytes,) uint8 of part of a block, and wait until it is here."""
        address, size = self._blocks[name]
        if offset + num_bytes > size:
            raise ValueError(f"{num_bytes} bytes at {offset} are not within the {size} of {name}")
        content = np.empty(num_bytes, np.uint8)
        self._cuda.download(content, address + offset)
        self._cuda.synchronize()
        return content

    def given(self, name: str, content: Array, room: int) -> Bound:
        """Bring an input to the device; `room` bytes are kept for the name from the first time on."""
        raw = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        twin = self._twin(name, max(room, raw.nbytes))
        twin.array[: raw.nbytes] = raw
        address = twin.address or self.block(name, max(room, raw.nbytes))
        if not twin.address:
            self._cuda.upload(address, twin.array[: raw.nbytes])
        return Bound(address, content.shape, content.dtype)

    def wanted(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], room: int) -> Bound:
        """Return memory for an output, with the array on the host that `fetch` fills as its owner."""
        num_bytes = prod(shape) * dtype.itemsize
        twin = self._twin(name, max(room, num_bytes))
        address = twin.address or self.block(name, max(room, num_bytes))
        return Bound(address, shape, dtype, owner=twin.array[:num_bytes].view(dtype).reshape(shape))

    def fetch(self, bound: Bound) -> None:
        """Queue the copy of a wanted output to its twin, where they are not the same memory."""
        assert isinstance(bound.owner, np.ndarray)
        if not self._cuda.is_integrated:
            self._cuda.download(bound.owner, bound.address)

    def report(self) -> dict[str, int]:
        """Return bytes of the device by purpose, and of page-locked memory."""
        is_cache = {name: name.startswith("past") for name in self._blocks}
        return {
            "caches": sum(size for name, (_, size) in self._blocks.items() if is_cache[name]),
            "inputs and outputs": sum(size for name, (_, size) in self._blocks.items() if not is_cache[name]),
            "page-locked": sum(twin.array.nbytes for twin in self._twins.values()),
        }

    def close(self) -> None:
        """Give everything back."""
        for address, _ in self._blocks.values():
            self._cuda.free(address)
        for twin in self._twins.values():
            self._cuda.free_host(twin)
        self._blocks, self._twins = {}, {}

    def _twin(self, name: str, num_bytes: int) -> HostMemory:
        twin = self._twins.get(name)
        if twin is None or twin.array.nbytes < num_bytes:
            self._forget_twin(name)
            twin = self._twins[name] = self._cuda.host(_rounded(num_bytes))
        return twin

    def _forget(self, name: str) -> None:
        self.generation += 1
        if name in self._blocks:
            self._cuda.synchronize()
            self._cuda.free(self._blocks.pop(name)[0])

    def _forget_twin(self, name: str) -> None:
        self.generation += 1
        if name in self._twins:
            self._cuda.synchronize()
            self._cuda.free_host(self._twins.pop(name))


def _rounded(num_bytes: int) -> int:
    return -(-max(num_bytes, 1) // ALIGNMENT) * ALIGNMENT
