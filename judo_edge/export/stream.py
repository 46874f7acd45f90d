"""Writing forms to files, piece by piece at known places, and graphs that point into them.

A few rows of a tensor are in memory at a time. Forms do not
depend on each other, so a few are made at once, each by a thread of its own; what counts as done is always a run of
forms from the first one.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from judo_edge.export.forms import Part, Piece, StoredForm

ALIGNMENT = 4096
"""Bytes; a memory page, so that runtimes can map a large tensor without a copy."""
SMALL_ALIGNMENT = 64
"""Bytes; a cache line, for tensors smaller than a page."""

JOINED_BYTES = 160 << 20
"""Greatest part that is joined in memory before it is written, if its rows lie apart: a 7B matrix in float16. Larger
ones are written row by row."""

_MAX_WORKERS = 4
_TICK = 0.2
"""Seconds between two reports while nothing is finished."""

Report = Callable[[int], None]
"""Is told the bytes written since the last call."""

Complete = Callable[[int, int], None]
"""Is told how many forms from the first one are complete, and the bytes of the last of them."""


@dataclass(frozen=True)
class Layout:
    """Where every part lies in one data file."""

    file: str
    """Name in the bundle."""
    forms: tuple[StoredForm, ...]
    """In the order of their places."""
    places: Mapping[str, int]
    """Name of a part -> its first byte."""

    @property
    def num_bytes(self) -> int:
        """Return the size of the file."""
        return max((self.places[part.name] + part.num_bytes for form in self.forms for part in form.parts), default=0)

    def description(self) -> list[object]:
        """Return all that decides which bytes go where, for comparing two plans."""
        parts = [(form.label, part, self.places[part.name]) for form in self.forms for part in form.parts]
        return [self.file, *([label, part.name, part.dtype, list(part.shape), place] for label, part, place in parts)]


def graph_layout(model: ir.Model, file: str, forms: Sequence[StoredForm]) -> Layout:
    """Lay out the initializers without data; raises ValueError when the forms do not fit the graph."""
    by_name = {part.name: part for form in forms for part in form.parts}
    empty = _empty(model)
    if set(by_name) != set(empty):
        raise ValueError(f"forms and graph differ in {sorted(set(by_name) ^ set(empty))}")
    places = _places([by_name[name] for name in empty])
    return Layout(file, tuple(sorted(forms, key=lambda form: places[form.parts[0].name])), places)


def table_layout(file: str, form: StoredForm) -> Layout:
    """Lay out one form whose parts follow each other in a file of its own."""
    return Layout(file, (form,), _places(form.parts))


def workers() -> int:
    """Return how many forms are made at once: the cores that this process may use, four at most."""
    return min(_MAX_WORKERS, len(os.sched_getaffinity(0)))


def num_bytes_of(form: StoredForm) -> int:
    """Return the bytes that a form writes."""
    return sum(part.num_bytes for part in form.parts)


def graph_bytes(model: ir.Model, layout: Layout) -> bytes:
    """Return the graph file: its initializers point into the data file. `model` stays without data."""
    with _external(model, layout):
        raw: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    return raw


def write_layout(
    path: Path, layout: Layout, report: Report, start: int = 0, complete: Complete = lambda forms, num_bytes: None
) -> None:
    """Write the forms from number `start` on; those before it are in the file already.

    `report` and `complete` are called in the caller's thread. Raises OSError, and whatever a form raises; then forms
    that are not complete may be there in part.
    """
    with path.open("r+b" if start else "wb", buffering=0) as file, _one_thread_each():
        stop, counter = threading.Event(), _Counter()
        pool, waiting = ThreadPoolExecutor(workers()), deque[Future[None]]()
        try:
            for number, form in enumerate(layout.forms[start:], start):
                while len(waiting) > workers():
                    _finish(waiting, layout, number, report, counter, complete)
                waiting.append(pool.submit(_write_form, file.fileno(), form, layout.places, stop, counter))
            while waiting:
                _finish(waiting, layout, len(layout.forms), report, counter, complete)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _finish(
    waiting: deque[Future[None]], layout: Layout, begun: int, report: Report, counter: _Counter, complete: Complete
) -> None:
    """Wait for the oldest form in work; `begun` forms have been handed out."""
    while not wait([waiting[0]], timeout=_TICK).done:
        report(counter.taken())
    number = begun - len(waiting)
    waiting.popleft().result()
    report(counter.taken())
    complete(number + 1, num_bytes_of(layout.forms[number]))


class _Counter:
    """Bytes written by the threads and not yet reported."""

    def __init__(self) -> None:
        self._count, self._access = 0, threading.Lock()

    def add(self, count: int) -> None:
        with self._access:
            self._count += count

    def taken(self) -> int:
        with self._access:
            count, self._count = self._count, 0
        return count


def _write_form(
    file: int, form: StoredForm, places: Mapping[str, int], stop: threading.Event, counter: _Counter
) -> None:
    parts = [_PartWriter(file, places[part.name], part) for part in form.parts]
    for piece in form.pieces():
        if stop.is_set():
            return
        parts[piece.part].put(piece)
        counter.add(piece.values.nbytes)
    for part in parts:
        part.finish()


class _PartWriter:
    """Puts the pieces of one part in their places."""

    def __init__(self, file: int, start: int, part: Part) -> None:
        self._file, self._start, self._size = file, start, part.num_bytes
        self._joined: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None = None

    def put(self, piece: Piece) -> None:
        """Write a piece, or keep it until its neighbours are there."""
        count = len(piece.values) if piece.stride else 1
        rows = piece.values.reshape(count, -1).view(np.uint8)
        if piece.stride in (0, rows.shape[1]):
            _write_at(self._file, self._start + piece.offset, rows.reshape(-1).data)
        elif self._size <= JOINED_BYTES:
            self._join(rows, piece)
        else:
            for i, row in enumerate(rows):
                _write_at(self._file, self._start + piece.offset + i * piece.stride, row.data)

    def finish(self) -> None:
        """Write what was kept."""
        if self._joined is not None:
            _write_at(self._file, self._start, self._joined.data)

    def _join(self, rows: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], piece: Piece) -> None:
        if self._joined is None:
            self._joined = np.empty(self._size, np.uint8)
        first, column = divmod(piece.offset, piece.stride)
        table = self._joined.reshape(-1, piece.stride)
        table[first : first + len(rows), column : column + rows.shape[1]] = rows


def _write_at(file: int, place: int, view: memoryview) -> None:
    while view:
        written = os.pwrite(file, view, place)
        view, place = view[written:], place + written


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let torch use one thread in each of ours: together they use the cores once."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _places(parts: Sequence[Part]) -> dict[str, int]:
    """Lay parts out one after the other: large ones on pages, so that a runtime can map them without a copy."""
    places: dict[str, int] = {}
    end = 0
    for part in parts:
        alignment = ALIGNMENT if part.num_bytes >= ALIGNMENT else SMALL_ALIGNMENT
        places[part.name] = end + -end % alignment
        end = places[part.name] + part.num_bytes
    return places


def _empty(model: ir.Model) -> dict[str, ir.Value]:
    return {name: value for name, value in model.graph.initializers.items() if value.const_value is None}


@contextmanager
def _external(model: ir.Model, layout: Layout) -> Iterator[None]:
    """Let the initializers point into the data file while the graph is written."""
    empty, parts = _empty(model), {part.name: part for form in layout.forms for part in form.parts}
    try:
        for name, value in empty.items():
            if value.dtype is None or value.shape is None:
                raise ValueError(f"initializer {name} has no type or shape")
            place, size = layout.places[name], parts[name].num_bytes
            value.const_value = ir.ExternalTensor(
                layout.file, place, size, value.dtype, shape=value.shape, name=name, base_dir=""
            )
        yield
    finally:
        for value in empty.values():
            value.const_value = None
