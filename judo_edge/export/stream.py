"""Writing forms to files, piece by piece at known places, and graphs that point into them.

Gives the same bytes as `graphs.store`, which holds one whole tensor at a time; here it is a few rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from judo_edge.export.forms import Part, Piece, StoredForm
from judo_edge.export.graphs.store import ALIGNMENT, SMALL_ALIGNMENT

Report = Callable[[int], None]
"""Is told the bytes written since the last call."""


def write_graph(model: ir.Model, path: Path, forms: Sequence[StoredForm], report: Report) -> tuple[Path, Path]:
    """Write `path` and `path`.data; the initializers without data are those that the forms fill.

    `model` stays without data. Raises OSError when the disk refuses, ValueError when the forms do not fit the graph.
    """
    empty = {name: value for name, value in model.graph.initializers.items() if value.const_value is None}
    by_name = {part.name: part for form in forms for part in form.parts}
    if set(by_name) != set(empty):
        raise ValueError(f"forms and graph differ in {sorted(set(by_name) ^ set(empty))}")
    data = path.with_name(f"{path.name}.data")
    places = _places([by_name[name] for name in empty])
    write_forms(data, forms, places, report)
    with _external(empty, by_name, places, data):
        path.write_bytes(ir.serde.serialize_model(model).SerializeToString(deterministic=True))
    return path, data


def write_forms(path: Path, forms: Sequence[StoredForm], places: dict[str, int], report: Report) -> None:
    """Write every piece of every form; `places` gives the first byte of each part. Raises OSError."""
    with path.open("wb", buffering=0) as file:
        for form in forms:
            starts = [places[part.name] for part in form.parts]
            for piece in form.pieces():
                _write(file, starts[piece.part], piece)
                report(piece.values.nbytes)


def _write(file: BinaryIO, start: int, piece: Piece) -> None:
    """Write a piece at its place: in one go, or row by row when its rows lie apart."""
    count = len(piece.values) if piece.stride else 1
    rows = piece.values.reshape(count, -1).view(np.uint8)
    if piece.stride == rows.shape[1]:
        rows = rows.reshape(1, -1)
    for i, row in enumerate(rows):
        _write_at(file, start + piece.offset + i * piece.stride, row.data)


def _write_at(file: BinaryIO, place: int, view: memoryview) -> None:
    while view:
        written = os.pwrite(file.fileno(), view, place)
        view, place = view[written:], place + written


def _places(parts: Sequence[Part]) -> dict[str, int]:
    """Lay parts out one after the other: large ones on pages, so that a runtime can map them without a copy."""
    places: dict[str, int] = {}
    end = 0
    for part in parts:
        alignment = ALIGNMENT if part.num_bytes >= ALIGNMENT else SMALL_ALIGNMENT
        places[part.name] = end + -end % alignment
        end = places[part.name] + part.num_bytes
    return places


@contextmanager
def _external(empty: dict[str, ir.Value], parts: dict[str, Part], places: dict[str, int], data: Path) -> Iterator[None]:
    """Let the initializers point into the data file while the graph is written."""
    try:
        for name, value in empty.items():
            if value.dtype is None or value.shape is None:
                raise ValueError(f"initializer {name} has no type or shape")
            place, size = places[name], parts[name].num_bytes
            value.const_value = ir.ExternalTensor(
                data.name, place, size, value.dtype, shape=value.shape, name=name, base_dir=data.parent
            )
        yield
    finally:
        for value in empty.values():
            value.const_value = None
