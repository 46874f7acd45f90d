"""The engine over the graphs of a bundle, whatever runs them: one pass through the pieces, and the cache it leaves.

Knows dialects, pieces and types of numbers through `layout` and `cache`; vendors are behind `backend`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from types import TracebackType

import numpy as np

from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError
from judo_edge.runtime.engines.backend import Array, Backend, Bindings, Bound, Call
from judo_edge.runtime.engines.base import Decoded
from judo_edge.runtime.engines.cache import Cache, cache_from_layout
from judo_edge.runtime.engines.layout import VISION, Layout, Piece


class GraphEngine:
    """Runs the vision graph and the decoder's pieces, and keeps the keys and values where the graphs read them."""

    def __init__(self, name: str, digest: str, layout: Layout, opened: Callable[[], Backend]) -> None:
        """Remember how the backend is opened; `digest` names what decides an embedding."""
        self.name, self.digest = name, digest
        self.layout = layout
        self.length = 0
        self._opened = opened
        self._parts: tuple[Backend, Cache] | None = None

    def __enter__(self) -> GraphEngine:
        """Open every graph; EngineError when one does not load."""
        backend = self._opened()
        self._parts = (backend, cache_from_layout(self.layout, backend))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop graphs and cache."""
        parts, self._parts, self.length = self._parts, None, 0
        if parts is not None:
            parts[0].close()

    @property
    def backend(self) -> Backend:
        """Return what runs the graphs; RuntimeError outside the `with` block."""
        return self._inside()[0]

    @property
    def capacity(self) -> int:
        """Return how many positions fit since the last start."""
        return self._inside()[1].capacity

    def encode(self, patches: Floats) -> Floats:
        """Return (N, T, D) embeddings of (N, P, 1176) patches."""
        backend, _ = self._inside()
        given = backend.given("pixel_values", patches.astype(self.layout.dtype, copy=False))
        shape = (patches.shape[0], *self.layout.vision_rows)
        wanted = backend.wanted("embeddings", shape, self.layout.dtype)
        backend.run([Call(VISION, {"pixel_values": given}, {"embeddings": wanted})])
        return _float32(backend.fetched(wanted))

    def start(self, capacity: int, prefix: Floats | None = None) -> None:
        """Forget everything; see `Engine.start`. EngineError when the prefix does not fit the graphs."""
        _, cache = self._inside()
        self.length = 0
        spare = max(self.backend.widths, default=0)
        cache.start(capacity + spare)
        if prefix is not None:
            self._check_prefix(prefix, capacity)
            cache.load(prefix)
            self.length = prefix.shape[0]

    def rewind(self, length: int) -> None:
        """Forget the positions from `length` on; ValueError when so many are not kept."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind to {length}: {self.length} positions are kept")
        self.length = length

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        """Append positions; see `Engine.advance`. EngineError when they do not fit."""
        num_new = inputs_embeds.shape[1]
        width = self._width(num_new)
        decoded = self._pass(_widened(inputs_embeds, 1, width), _widened(positions, 2, width), rows)
        self.length += num_new
        return decoded._replace(cells=None if decoded.cells is None else decoded.cells[:, :num_new])

    def _pass(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        backend, cache = self._inside()
        num_new = inputs_embeds.shape[1]
        if self.length + num_new > cache.capacity:
            raise EngineError(f"{num_new} positions behind {self.length}", f"at most {cache.capacity} in all")
        dtype = self.layout.dtype
        shared = {
            "inputs_embeds": backend.given("inputs_embeds", inputs_embeds.astype(dtype, copy=False)),
            "positions": backend.given("positions", positions),
            "mask": backend.given("mask", cache.mask(num_new, self.length).astype(dtype, copy=False)),
            "rows": backend.given("rows", rows),
        }
        calls = list(self._calls(shared, num_new, rows.size))
        backend.run(calls)
        return _decoded(backend, calls)

    def _calls(self, shared: Bindings, num_new: int, num_rows: int) -> Iterator[Call]:
        """Yield the pieces in order, each reading what the last layers wrote."""
        _, cache = self._inside()
        stream = shared["inputs_embeds"]
        for number, piece in enumerate(self.layout.pieces):
            inputs, outputs = cache.bound(piece, num_new, self.length)
            common = {name: bound for name, bound in shared.items() if name in piece.takes}
            outputs = {**outputs, **self._results(piece, number, num_new, num_rows)}
            yield Call(piece.name, {**common, **inputs, "inputs_embeds": stream}, outputs)
            stream = outputs.get("hidden", stream)

    def _results(self, piece: Piece, number: int, num_new: int, num_rows: int) -> Bindings:
        """Return memory for what a piece puts out besides keys and values."""
        backend, dtype = self.backend, self.layout.dtype
        results: dict[str, Bound] = {}
        for name, width in piece.widths.items():
            shape = (1, num_rows if name == "logits" else num_new, width)
            if name == "hidden":  # two buffers in turn: a piece reads the one and writes the other
                results[name] = backend.between(f"hidden:{number % 2}", shape, dtype)
            else:
                results[name] = backend.wanted(f"{name}:{piece.name}", shape, dtype)
        return results

    def _width(self, num_new: int) -> int:
        """Return the number of positions to run: a few more than asked where that makes the shape a known one."""
        widths = self.backend.widths
        index = bisect_left(widths, num_new)
        return widths[index] if index < len(widths) else num_new

    def _check_prefix(self, prefix: Floats, capacity: int) -> None:
        layout = self.layout
        layers = sum(piece.num_layers for piece in layout.pieces)
        if prefix.shape[1:] != (layers, 2, 1, layout.kv_heads, layout.head_dim) or prefix.shape[0] > capacity:
            wanted = f"at most {capacity} positions of {(layers, 2, 1, layout.kv_heads, layout.head_dim)}"
            raise EngineError(f"prefix keys and values of shape {prefix.shape}", wanted, "export the bundle again")

    def _inside(self) -> tuple[Backend, Cache]:
        if self._parts is None:
            raise RuntimeError("the engine is used outside its `with` block")
        return self._parts


def _decoded(backend: Backend, calls: list[Call]) -> Decoded:
    """Collect the logits of all parts of the head, side by side, and the cells of the piece that has them."""
    parts = [backend.fetched(call.outputs["logits"]) for call in calls if "logits" in call.outputs]
    cells = [backend.fetched(call.outputs["cells"]) for call in calls if "cells" in call.outputs]
    logits = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    return Decoded(_float32(logits), _float32(cells[0]) if cells else None)


def _widened(array: Array, axis: int, width: int) -> Array:
    """Return the array with its last entry of an axis repeated up to `width`; the array itself when it is as wide."""
    missing = width - array.shape[axis]
    if missing <= 0:
        return array
    last = np.take(array, [-1], axis=axis)
    return np.concatenate([array, np.repeat(last, missing, axis=axis)], axis=axis)


def _float32(array: Array) -> Floats:
    return np.asarray(array, dtype=np.float32)
