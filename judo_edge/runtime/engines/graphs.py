"""The engine over the graphs of a bundle, whatever runs them: one pass through the pieces, and the cache it leaves.

Knows dialects, pieces and types of numbers through `layout` and `cache`; vendors are behind `backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

import numpy as np

from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError
from judo_edge.runtime.engines.backend import Array, Backend, Bindings, Bound, Call
from judo_edge.runtime.engines.base import Decoded, Encoded, KeysValues
from judo_edge.runtime.engines.cache import Cache, cache_from_layout
from judo_edge.runtime.engines.layout import VISION, Layout, Piece
from judo_edge.runtime.engines.recent import RecentRows


class GraphEngine:
    """Runs the vision graph and the decoder's pieces, and keeps the keys and values where the graphs read them."""

    def __init__(self, name: str, digest: str, layout: Layout, opened: Callable[[], Backend]) -> None:
        """Remember how the backend is opened; `digest` names what decides an embedding."""
        self.name, self.digest = name, digest
        self.layout = layout
        self.length = self.capacity = 0
        self.batch = 1
        self._prefix: KeysValues | None = None
        self._is_clean = False
        self._recent = RecentRows()
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
        parts, self._parts = self._parts, None
        self.length, self.capacity, self._is_clean = 0, 0, False
        if parts is not None:
            parts[0].close()

    @property
    def backend(self) -> Backend:
        """Return what runs the graphs; RuntimeError outside the `with` block."""
        return self._inside()[0]

    @property
    def max_batch(self) -> int:
        """Return how many prompts the graphs read together."""
        return self.backend.max_batch

    def encode(self, patches: Floats) -> Encoded:
        """Return what the vision graph makes of (N, P, 1176) patches."""
        at_once = self.backend.max_images or len(patches)
        if len(patches) <= at_once:
            return self._encoded(patches)
        chunks = [patches[begin : begin + at_once] for begin in range(0, len(patches), at_once)]
        return _joined([_copied(self._encoded(chunk)) for chunk in chunks])

    def start(self, capacity: int, prefix: KeysValues | None = None, batch: int = 1) -> None:
        """Forget everything; see `Engine.start`. A prefix that lies in the cache already is not loaded again.

        Raises EngineError when so many positions or prompts, or this prefix, do not fit the graphs.
        """
        backend, cache = self._inside()
        room = backend.capacity(capacity)
        self._check_batch(batch)
        self._check_prefix(prefix, capacity, batch)
        is_fresh = not self._is_clean or (room, batch) != (cache.capacity, cache.batch)
        if is_fresh:
            self._prefix = None
            cache.start(room, batch)
        if prefix is not None and prefix is not self._prefix:
            cache.load(prefix)
        self._prefix, self._is_clean = prefix, True
        self.capacity, self.length, self.batch = capacity, 0 if prefix is None else len(prefix), batch
        self._recent.start(self.length)

    def keys_values(self, begin: int, end: int) -> KeysValues:
        """Return a copy of kept positions; see `Engine.keys_values`."""
        if not 0 <= begin < end <= self.length:
            raise ValueError(f"no keys and values of {begin} to {end}: {self.length} positions are kept")
        return self._inside()[1].read(begin, end)

    def rewind(self, length: int) -> None:
        """Forget the positions from `length` on; ValueError when so many are not kept."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind to {length}: {self.length} positions are kept")
        if self._prefix is not None and length < len(self._prefix):
            self._prefix = None  # what is appended now overwrites it
        self.length = length
        self._recent.rewind(length)

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        """Append positions; see `Engine.advance`. EngineError when they do not fit."""
        num_items, num_new = inputs_embeds.shape[:2]
        if num_items != self.batch:
            raise ValueError(f"rows of {num_items} prompts: started for {self.batch}")
        if self.length + num_new > self.capacity:
            found = f"{num_new} positions behind {self.length}"
            raise EngineError(found, f"at most {self.capacity} in all", "shorten the prompt or the reply")
        num_again = self._recent.num_behind(self.backend.grid)
        embeds, places = self._recent.before(num_again, inputs_embeds, positions)
        self._is_clean = False
        logits, cells = self._run(embeds, places, rows + num_again, self.length - num_again)
        # Keys that are no numbers would spoil later prompts too: their places weigh nothing, but 0 * NaN is NaN.
        self._is_clean = bool(np.isfinite(logits).all())
        self.length += num_new
        if self.backend.grid > 1:
            self._recent.append(inputs_embeds, positions)
        return Decoded(logits, None if cells is None else cells[:, num_again:])

    def _run(self, embeds: Floats, positions: Ints, rows: Ints, begin: int) -> Decoded:
        """Run one pass behind `begin` kept positions, widened to a shape that the backend prefers."""
        num_new = embeds.shape[1]
        width = self._width(num_new, begin)
        num_rows = self._num_rows(rows.size, width)
        wide = (_widened(embeds, 1, width), _widened(positions, 2, width), _widened(rows, 0, num_rows))
        logits, cells = self._pass(*wide, begin)
        return Decoded(logits[:, : rows.size], None if cells is None else cells[:, :num_new])

    def _encoded(self, patches: Floats) -> Encoded:
        backend, layout = self.backend, self.layout
        given = backend.given("pixel_values", patches.astype(layout.dtype, copy=False))
        shapes = {"embeddings": layout.vision_rows}
        if layout.vision_features:
            shapes["features"] = layout.vision_features
        wanted = {name: backend.wanted(name, (len(patches), *shape), layout.dtype) for name, shape in shapes.items()}
        backend.run([Call(VISION, {"pixel_values": given}, wanted)])
        return Encoded(*(_float32(backend.fetched(bound)) for bound in wanted.values()))

    def _pass(self, inputs_embeds: Floats, positions: Ints, rows: Ints, begin: int) -> Decoded:
        """Run all pieces over exactly these positions, behind `begin` kept ones."""
        backend, cache = self._inside()
        num_new = inputs_embeds.shape[1]
        stream = inputs_embeds.astype(self.layout.dtype, copy=False)
        inputs = {"inputs_embeds": stream, "positions": positions, "rows": rows, **cache.inputs(num_new, begin)}
        shared = {name: backend.given(name, array) for name, array in inputs.items()}
        calls = list(self._calls(shared, rows.size, begin))
        backend.run(calls)
        return _decoded(backend, calls)

    def _calls(self, shared: Bindings, num_rows: int, begin: int) -> Iterator[Call]:
        """Yield the pieces in order, each reading what the last layers wrote."""
        _, cache = self._inside()
        stream = shared["inputs_embeds"]
        num_new = stream.shape[1]
        for number, piece in enumerate(self.layout.pieces):
            inputs, outputs = cache.bound(piece, num_new, begin)
            common = {name: bound for name, bound in shared.items() if name in piece.takes}
            outputs = {**outputs, **self._results(piece, number, num_new, num_rows)}
            yield Call(piece.name, {**common, **inputs, "inputs_embeds": stream}, outputs)
            stream = outputs.get("hidden", stream)

    def _results(self, piece: Piece, number: int, num_new: int, num_rows: int) -> Bindings:
        """Return memory for what a piece puts out besides keys and values."""
        backend, dtype = self.backend, self.layout.dtype
        results: dict[str, Bound] = {}
        for name, width in piece.widths.items():
            shape = (self.batch, num_rows if name == "logits" else num_new, width)
            if name == "hidden":  # two buffers in turn: a piece reads the one and writes the other
                results[name] = backend.between(f"hidden:{number % 2}", shape, dtype)
            else:
                results[name] = backend.wanted(f"{name}:{piece.name}", shape, dtype)
        return results

    def _width(self, num_new: int, begin: int) -> int:
        """Return the number of positions to run: a few more than asked where that makes the shape a known one.

        What they write lies behind the kept positions and is overwritten by the next pass.
        """
        backend, cache = self._inside()
        width = next((width for width in backend.widths if width >= num_new), _up(num_new, backend.multiple))
        return width if begin + width <= cache.capacity else num_new

    def _num_rows(self, num_rows: int, width: int) -> int:
        """Return how many rows to ask for: one or all, where the shape is to be a known one."""
        if 1 < num_rows < width and width in self.backend.widths:
            return width
        return _up(num_rows, self.backend.multiple)

    def _check_batch(self, batch: int) -> None:
        if not 1 <= batch <= self.max_batch:
            raise EngineError(f"{batch} prompts at once", f"1 to {self.max_batch}", "read them one by one")

    def _check_prefix(self, prefix: KeysValues | None, capacity: int, batch: int) -> None:
        layout = self.layout
        layers = sum(piece.num_layers for piece in layout.pieces)
        shape = (layers, 2, batch, layout.kv_heads, layout.head_dim)
        if prefix is None:
            return
        is_fitting = prefix.shape[1:] in (shape, (*shape[:2], 1, *shape[3:])) and len(prefix) <= capacity
        if not is_fitting or prefix.dtype not in (np.float32, layout.dtype):
            found = f"prefix keys and values of shape {prefix.shape} in {prefix.dtype}"
            raise EngineError(found, f"at most {capacity} positions of {shape}", "export the bundle again")

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


def _up(number: int, multiple: int) -> int:
    """Return the next multiple."""
    return -(-number // multiple) * multiple


def _copied(encoded: Encoded) -> Encoded:
    return Encoded(encoded.rows.copy(), None if encoded.features is None else encoded.features.copy())


def _joined(parts: list[Encoded]) -> Encoded:
    """Put the photos of several calls one after the other."""
    features = [part.features for part in parts if part.features is not None]
    return Encoded(np.concatenate([part.rows for part in parts]), np.concatenate(features) if features else None)


def _widened(array: Array, axis: int, width: int) -> Array:
    """Return the array with its last entry of an axis repeated up to `width`; the array itself when it is as wide."""
    missing = width - array.shape[axis]
    if missing <= 0:
        return array
    last = np.take(array, [-1], axis=axis)
    return np.concatenate([array, np.repeat(last, missing, axis=axis)], axis=axis)


def _float32(array: Array) -> Floats:
    return np.asarray(array, dtype=np.float32)
