"""The KV cache in an engine's own memory, once for each dialect of the graphs.

Both write a new position's keys and values where they stay, so that nothing is copied between passes. Knows shapes
and addresses; whose memory it is, the backend knows.
"""

from __future__ import annotations

from math import prod
from typing import Protocol

import numpy as np

from judo_edge.errors import EngineError
from judo_edge.runtime.engines.backend import Array, Backend, Bindings, Bound
from judo_edge.runtime.engines.base import KeysValues
from judo_edge.runtime.engines.layout import Layout, Piece
from judo_edge.runtime.engines.masks import capacity_mask, causal_mask, drop_from_dtype


class Cache(Protocol):
    """Keys and values of the positions of the prompts that are read together."""

    @property
    def capacity(self) -> int:
        """How many positions fit."""
        ...

    @property
    def batch(self) -> int:
        """How many prompts."""
        ...

    def start(self, capacity: int, batch: int = 1) -> None:
        """Make room for `capacity` positions of each of `batch` prompts and forget what was kept."""
        ...

    def load(self, prefix: KeysValues) -> None:
        """Fill the first P positions from (P, L, 2, B or 1, Hkv, hd) of any float type."""
        ...

    def read(self, begin: int, end: int) -> KeysValues:
        """Return a copy (end - begin, L, 2, B, Hkv, hd) of positions in the graphs' own type."""
        ...

    def inputs(self, num_new: int, length: int) -> dict[str, Array]:
        """Return what the graphs must be told of a pass over `num_new` positions behind `length` kept ones."""
        ...

    def bound(self, piece: Piece, num_new: int, length: int) -> tuple[Bindings, Bindings]:
        """Return the piece's inputs and outputs that are this cache."""
        ...


def cache_from_layout(layout: Layout, backend: Backend) -> Cache:
    """Return the cache that the graphs' dialect wants."""
    return LayerCache(layout, backend) if layout.dialect == "modern" else PositionCache(layout, backend)


class PositionCache:
    """Legacy: for each piece with n layers one buffer (C, n, 2, B, Hkv, hd).

    The position comes first, so the filled prefix is contiguous: `past` is its beginning, `present` what follows.
    """

    def __init__(self, layout: Layout, backend: Backend) -> None:
        """Take no memory yet."""
        self._layout, self._backend = layout, backend
        self._addresses: dict[str, int] = {}
        self.capacity, self.batch = 0, 1

    def start(self, capacity: int, batch: int = 1) -> None:
        """Make room; what lies behind the filled prefix is never read, so nothing is cleared."""
        self.capacity, self.batch = capacity, batch
        for piece in self._layout.pieces:
            if piece.num_layers:
                self._check_alignment(piece)
                num_bytes = capacity * self._row_bytes(piece)
                self._addresses[piece.name] = self._backend.reserve(f"past:{piece.name}", num_bytes, clear=False)

    def load(self, prefix: KeysValues) -> None:
        """Fill the first positions of every piece."""
        for piece in self._layout.pieces:
            if piece.num_layers:
                own = prefix[:, piece.first_layer : piece.first_layer + piece.num_layers]
                own = np.broadcast_to(own, (len(own), *self._row(piece)))
                self._backend.load(f"past:{piece.name}", own.astype(self._layout.dtype, copy=False))

    def read(self, begin: int, end: int) -> KeysValues:
        """Copy the positions of every piece and put them side by side."""
        parts = []
        for piece in self._layout.pieces:
            if piece.num_layers:
                row = self._row_bytes(piece)
                raw = self._backend.read(f"past:{piece.name}", (end - begin) * row, begin * row)
                parts.append(raw.view(self._layout.dtype).reshape(end - begin, *self._row(piece)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def inputs(self, num_new: int, length: int) -> dict[str, Array]:
        """Return the mask (B, 1, S, P + S)."""
        dtype = self._layout.dtype
        mask = causal_mask(num_new, length, drop_from_dtype(dtype)).astype(dtype, copy=False)
        return {"mask": np.broadcast_to(mask, (self.batch, *mask.shape[1:]))}

    def bound(self, piece: Piece, num_new: int, length: int) -> tuple[Bindings, Bindings]:
        """Bind `past` to the filled prefix and `present` to the room right behind it."""
        if not piece.num_layers:
            return {}, {}
        address, row = self._addresses[piece.name], self._row(piece)
        past = Bound(address, (length, *row), self._layout.dtype)
        present = Bound(address + length * self._row_bytes(piece), (num_new, *row), self._layout.dtype)
        return {"past": past}, {"present": present}

    def _check_alignment(self, piece: Piece) -> None:
        """Refuse rows behind which no address may be bound: every position would have to be copied."""
        if self._row_bytes(piece) % self._backend.alignment:
            found = f"{piece.name}: keys and values of {self._row_bytes(piece)} bytes per position"
            raise EngineError(found, f"a multiple of {self._backend.alignment}", "export with other layers_per_segment")

    def _row(self, piece: Piece) -> tuple[int, ...]:
        return (piece.num_layers, 2, self.batch, self._layout.kv_heads, self._layout.head_dim)

    def _row_bytes(self, piece: Piece) -> int:
        return prod(self._row(piece)) * self._layout.dtype.itemsize


class LayerCache:
    """Modern: keys and values of each layer in a buffer (B, Hkv, C, hd), updated in place by the graph's TensorScatter.

    Input and output share one address, as TensorRT demands. Places that are not filled take part in the products with
    weight zero, so they must hold numbers: a start clears them.
    """

    def __init__(self, layout: Layout, backend: Backend) -> None:
        """Take no memory yet."""
        self._layout, self._backend = layout, backend
        self._addresses: dict[str, int] = {}
        self.capacity, self.batch = 0, 1

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.batch, self._layout.kv_heads, self.capacity, self._layout.head_dim)

    def start(self, capacity: int, batch: int = 1) -> None:
        """Make room and clear it."""
        self.capacity, self.batch = capacity, batch
        num_bytes = prod(self._shape) * self._layout.dtype.itemsize
        for piece in self._layout.pieces:
            for name in self._names(piece):
                self._addresses[name] = self._backend.reserve(name, num_bytes, clear=True)

    def load(self, prefix: KeysValues) -> None:
        """Fill the first positions of every layer; the rest of each buffer is cleared."""
        for piece in self._layout.pieces:
            for layer in piece.layers:
                for kind, name in enumerate(("key", "value")):
                    image = np.zeros(self._shape, self._layout.dtype)
                    image[:, :, : prefix.shape[0]] = prefix[:, layer, kind].transpose(1, 2, 0, 3)
                    self._backend.load(f"past_{name}_{layer}", image)

    def read(self, begin: int, end: int) -> KeysValues:
        """Copy every layer's buffer and pick the positions."""
        layout = self._layout
        num_layers = sum(piece.num_layers for piece in layout.pieces)
        found = np.empty((end - begin, num_layers, 2, self.batch, layout.kv_heads, layout.head_dim), layout.dtype)
        num_bytes = prod(self._shape) * layout.dtype.itemsize
        for layer in range(num_layers):
            for kind, name in enumerate(("key", "value")):
                buffer = self._backend.read(f"past_{name}_{layer}", num_bytes).view(layout.dtype).reshape(self._shape)
                found[:, layer, kind] = buffer[:, :, begin:end].transpose(2, 0, 1, 3)
        return found

    def inputs(self, num_new: int, length: int) -> dict[str, Array]:
        """Return the mask (B, 1, S, C) and `write` (B,), the first place to write."""
        dtype = self._layout.dtype
        mask = capacity_mask(num_new, length, self.capacity, drop_from_dtype(dtype)).astype(dtype, copy=False)
        mask = np.broadcast_to(mask, (self.batch, *mask.shape[1:]))
        return {"mask": mask, "write": np.full(self.batch, length, dtype=np.int64)}

    def bound(self, piece: Piece, num_new: int, length: int) -> tuple[Bindings, Bindings]:
        """Bind each cache as input and as output."""
        if not piece.num_layers:
            return {}, {}
        inputs = {name: Bound(self._addresses[name], self._shape, self._layout.dtype) for name in self._names(piece)}
        outputs = {name.replace("past", "present", 1): bound for name, bound in inputs.items()}
        return inputs, outputs

    def _names(self, piece: Piece) -> list[str]:
        return [f"past_{kind}_{layer}" for layer in piece.layers for kind in ("key", "value")]
