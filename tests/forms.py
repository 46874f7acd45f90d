"""Stored forms put together in memory or in files, for tests that look at their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from judo_edge.export.forms import StoredForm
from judo_edge.export.stream import Layout, Report, graph_bytes, graph_layout, write_layout


def filled(form: StoredForm) -> list[np.ndarray]:
    """Put the pieces of a form together; every byte must be written exactly once."""
    arrays = [np.zeros(part.num_bytes, np.uint8) for part in form.parts]
    counts = [np.zeros(part.num_bytes, np.uint8) for part in form.parts]
    for piece in form.pieces():
        rows = piece.values.reshape(len(piece.values) if piece.stride else 1, -1).view(np.uint8)
        for i, raw in enumerate(rows):
            first = piece.offset + i * piece.stride
            arrays[piece.part][first : first + raw.size] = raw
            counts[piece.part][first : first + raw.size] += 1
    assert all((count == 1).all() for count in counts)
    return [raw.view(part.dtype).reshape(part.shape) for raw, part in zip(arrays, form.parts, strict=True)]


def write_graph(model: ir.Model, path: Path, forms: Sequence[StoredForm], report: Report) -> tuple[Path, Path]:
    """Write `path` and `path`.data; the initializers without data are those that the forms fill.

    `model` stays without data. Raises OSError when the disk refuses, ValueError when the forms do not fit the graph.
    """
    layout = graph_layout(model, f"{path.name}.data", forms)
    data = path.with_name(layout.file)
    write_layout(data, layout, report)
    path.write_bytes(graph_bytes(model, layout))
    return path, data


def write_forms(path: Path, forms: Sequence[StoredForm], places: Mapping[str, int], report: Report) -> None:
    """Write every piece of every form; `places` gives the first byte of each part. Raises OSError."""
    write_layout(path, Layout(path.name, tuple(forms), places), report)
