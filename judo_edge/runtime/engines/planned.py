"""The backend over TensorRT programs: device memory, order of work, and CUDA graphs for shapes that come back.

A pass of the decoder over one of `WIDTHS` positions in the modern dialect has the same shapes and addresses every time.
Its first run warms up, its second is captured with execution contexts of its own, every later one is one launch. In the
legacy dialect the past grows with every pass, so there is nothing to capture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import prod
from typing import Any

import numpy as np

from judo_edge.bundle import GraphEntry
from judo_edge.errors import EngineError
from judo_edge.runtime.engines.backend import Array, Bound, Call
from judo_edge.runtime.engines.cuda import Cuda
from judo_edge.runtime.engines.device import ALIGNMENT, DeviceMemory
from judo_edge.runtime.engines.programs import Program

WIDTHS = (1, 8, 16, 32, 64)
"""Positions of a step and of the drafts that one verifying pass reads."""

_MAX_FIXED = 16
"""Captured shapes that are kept: two for each width (one row wanted, or all) and a few to spare."""

_Key = tuple[Any, ...]


class PlanBackend:
    """Runs the graphs of a bundle on one CUDA device."""

    alignment = ALIGNMENT
    multiple = max_batch = grid = 1
    max_images = 1
    """One by one: the attention of a batch can pass 2^32 elements, and a batch gains a line nothing."""

    def __init__(
        self,
        cuda: Cuda,
        strategy: Any,
        programs: Mapping[str, Program],
        rooms: Mapping[str, int],
        engine_bytes: int = 0,
    ) -> None:
        """Take the programs; `rooms` says how many elements each input and output has at most.

        `strategy` is TensorRT's name for contexts whose scratch memory the caller provides, `engine_bytes` what
        deserialising the programs took of the device.
        """
        self._engine_bytes = engine_bytes
        self._cuda, self._strategy, self._programs, self._rooms = cuda, strategy, dict(programs), rooms
        self._memory = DeviceMemory(cuda)
        self._scratch_bytes = max((program.scratch_bytes for program in programs.values()), default=0)
        self._scratch = cuda.allocate(self._scratch_bytes) if self._scratch_bytes else 0
        self._contexts: dict[tuple[str, int], Any] = {}
        self._fixed: dict[_Key, _Fixed] = {}
        self._low, self._high = _cache_limits(programs)
        is_modern = any("write" in each for program in programs.values() for each in program.limits)
        self.widths: tuple[int, ...] = WIDTHS if is_modern and cuda.can_capture else ()

    def capacity(self, wanted: int) -> int:
        """Return the plans' own capacity, or as many as are wanted where they leave it open."""
        if wanted > self._high:
            action = f"{next(iter(self._programs.values())).rebuild} --force --max-tokens {wanted}"
            raise EngineError(f"a prompt and reply of {wanted} positions", f"at most {self._high}", action)
        spare = max(self.widths, default=0)
        return max(self._low, min(self._high, wanted + spare))

    def reserve(self, name: str, num_bytes: int, clear: bool) -> int:
        """Return device memory; see `Backend.reserve`."""
        return self._memory.block(name, num_bytes, clear)

    def load(self, name: str, content: Array) -> None:
        """Copy an array to the beginning of a reserved memory."""
        self._memory.load(name, content)

    def read(self, name: str, num_bytes: int, offset: int = 0) -> Array:
        """Return a copy of part of a reserved memory."""
        return self._memory.read(name, num_bytes, offset)

    def given(self, name: str, content: Array) -> Bound:
        """Bring an input to the device."""
        return self._memory.given(name, content, self._room(name, content.dtype))

    def between(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Bound:
        """Return device memory for what one graph hands to the next."""
        return Bound(self._memory.block(name, max(self._room(name, dtype), prod(shape) * dtype.itemsize)), shape, dtype)

    def wanted(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Bound:
        """Return memory for an output that the host will read."""
        return self._memory.wanted(name, shape, dtype, self._room(name, dtype))

    def fetched(self, bound: Bound) -> Array:
        """Return the content of a wanted output."""
        assert isinstance(bound.owner, np.ndarray)
        return bound.owner

    def run(self, calls: Sequence[Call]) -> None:
        """Run graphs one after the other and wait for the outputs that are wanted."""
        with self._settled():
            if self._is_fixed(calls):
                self._run_fixed(calls)
            else:
                self._queue(calls)
            for call in calls:
                for bound in call.outputs.values():
                    if bound.owner is not None:
                        self._memory.fetch(bound)
            self._cuda.synchronize()

    def memory(self) -> dict[str, int]:
        """Return bytes of the device by purpose: engines with their weights, caches, inputs and outputs, scratch."""
        own = {"engines": self._engine_bytes, "scratch": self._scratch_bytes, "free": self._cuda.free_bytes()}
        return {**self._memory.report(), **own}

    def close(self) -> None:
        """Give everything back: graphs before contexts, contexts before engines."""
        for fixed in self._fixed.values():
            self._release(fixed)
        self._fixed, self._contexts, self._programs = {}, {}, {}
        self._memory.close()
        if self._scratch:
            self._cuda.free(self._scratch)
        self._cuda.close()

    def _queue(self, calls: Sequence[Call]) -> None:
        for call in calls:
            program = self._programs[call.graph]
            key = call.graph, program.profile_of(call.inputs)
            if key not in self._contexts:
                self._contexts[key] = self._context(program, key[1])
            program.bind(self._contexts[key], call)
            program.queue(self._contexts[key], self._cuda.stream)

    def _is_fixed(self, calls: Sequence[Call]) -> bool:
        stream = calls[0].inputs.get("inputs_embeds")
        return stream is not None and stream.shape[1] in self.widths

    def _run_fixed(self, calls: Sequence[Call]) -> None:
        """Warm up, capture or launch."""
        key = (self._memory.generation, *(_key_of(call) for call in calls))
        fixed = self._fixed.get(key)
        if fixed is None:
            self._drop_stale()
            self._fixed[key] = self._warmed(calls)
        elif fixed.graph is None:
            fixed.graph = self._captured(calls, fixed)
            self._cuda.launch(fixed.graph)
        else:
            self._cuda.launch(fixed.graph)

    def _warmed(self, calls: Sequence[Call]) -> _Fixed:
        """Run once with contexts that serve only this shape: a captured graph holds what its contexts held."""
        contexts = []
        for call in calls:
            program = self._programs[call.graph]
            context = self._context(program, program.profile_of(call.inputs))
            program.bind(context, call)
            program.queue(context, self._cuda.stream)
            contexts.append(context)
        return _Fixed(contexts)

    def _captured(self, calls: Sequence[Call], fixed: _Fixed) -> object:
        self._cuda.synchronize()
        self._cuda.begin_capture()
        try:
            for call, context in zip(calls, fixed.contexts, strict=True):
                self._programs[call.graph].queue(context, self._cuda.stream)
        except BaseException:
            with suppress(EngineError):  # the stream has to leave the capture; the first error is the one that counts
                self._cuda.end_capture()
            raise
        return self._cuda.end_capture()

    def _drop_stale(self) -> None:
        """Release what was captured over addresses that are no longer, and the oldest of too many."""
        stale = [key for key in self._fixed if key[0] != self._memory.generation]
        for key in stale or list(self._fixed)[: len(self._fixed) - _MAX_FIXED + 1]:
            self._release(self._fixed.pop(key))

    def _release(self, fixed: _Fixed) -> None:
        if fixed.graph is not None:
            self._cuda.release(fixed.graph)

    def _context(self, program: Program, profile: int) -> Any:
        return program.context(profile, self._cuda.stream, self._scratch, self._scratch_bytes, self._strategy)

    def _room(self, name: str, dtype: np.dtype[Any]) -> int:
        return self._rooms.get(name.partition(":")[0], 0) * dtype.itemsize

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """After a failure wait for what is still queued, so that the next pass does not write under it."""
        try:
            yield
        except BaseException:
            with suppress(EngineError):
                self._cuda.synchronize()
            raise


class _Fixed:
    """One shape of a pass: its contexts, and its CUDA graph from the second run on."""

    def __init__(self, contexts: list[Any]) -> None:
        self.contexts = contexts
        self.graph: object | None = None


def rooms_from_entries(entries: Sequence[GraphEntry], programs: Sequence[Program]) -> dict[str, int]:
    """Return the greatest number of elements of each input and output over all graphs and profiles; no caches."""
    rooms: dict[str, int] = {}
    for entry, program in zip(entries, programs, strict=True):
        sizes: dict[str, int] = {}
        for limits in program.limits:
            for name, (_, high) in limits.items():
                sizes.update(_named(entry.inputs[name].shape, high, sizes))
                rooms[name] = max(rooms.get(name, 0), prod(high))
        for name, spec in entry.outputs.items():
            shape = [size if isinstance(size, int) else sizes.get(size, 1) for size in spec.shape]
            rooms[name] = max(rooms.get(name, 0), prod(shape))
    return {name: count for name, count in rooms.items() if not name.startswith(("past", "present"))}


def _named(shape: tuple[int | str, ...], high: tuple[int, ...], known: dict[str, int]) -> dict[str, int]:
    pairs = zip(shape, high, strict=True)
    return {size: max(top, known.get(size, 0)) for size, top in pairs if isinstance(size, str)}


def _cache_limits(programs: Mapping[str, Program]) -> tuple[int, int]:
    """Return the least and the greatest number of positions that every plan's cache can have."""
    lows, highs = [0], []
    for program in programs.values():
        for limits in program.limits:
            for name, (low, high) in limits.items():
                if name.startswith("past_key_"):
                    lows.append(low[2])
                    highs.append(high[2])
        if any("past" in limits for limits in program.limits):
            highs.append(max(limits["past"][1][0] for limits in program.limits))
    return max(lows), min(highs)


def _key_of(call: Call) -> _Key:
    bound = (*call.inputs.items(), *call.outputs.items())
    return (call.graph, *((name, item.address, item.shape) for name, item in bound))
