"""Streaming a few rows at a time gives the same files as the simple writer, and finds a full disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from judo_edge.errors import CheckpointError
from judo_edge.export.checkpoint import open_checkpoint
from judo_edge.export.forms import FloatForm, NBitsForm, TableForm, base
from judo_edge.export.graphs import ExportedGraphs, graphs_from_config
from judo_edge.export.lora import MergedWeights
from judo_edge.export.quantize import Grid, blocks_from_rows
from tests.forms import filled, write_forms, write_graph
from tests.store import onnx_with_weights
from tests.tiny import save_tiny_checkpoint

CHUNKS = [64, 1000, 16 << 20]
"""Bytes: one row at a time, a few rows, everything at once."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> MergedWeights:
    return MergedWeights(open_checkpoint(save_tiny_checkpoint(tmp_path_factory.mktemp("ck"))))


@pytest.fixture(scope="module")
def graphs(weights: MergedWeights) -> ExportedGraphs:
    return graphs_from_config(weights.checkpoint.config, 56)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_files_equal_those_of_the_simple_writer(
    weights: MergedWeights, graphs: ExportedGraphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(base, "CHUNK_BYTES", chunk)
    written: list[int] = []
    for graph in graphs.all:
        (tmp_path / graph.name).mkdir()
        (tmp_path / f"{graph.name}-slow").mkdir()
        slow = onnx_with_weights(graph, weights.whole, tmp_path / f"{graph.name}-slow" / "g.onnx")
        plain = [FloatForm(weights, use) for use in graph.weights.values()]
        fast = write_graph(graph.model, tmp_path / graph.name / "g.onnx", plain, written.append)
        assert fast[0].name == slow[0].name and fast[1].name == slow[1].name
        assert fast[0].read_bytes() == slow[0].read_bytes()
        assert fast[1].read_bytes() == slow[1].read_bytes()
    parts = [part for graph in graphs.all for part in graph.weights.values()]
    assert sum(written) == sum(4 * int(np.prod(part.shape)) for part in parts)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_blocks_in_pieces_equal_the_whole(
    weights: MergedWeights, graphs: ExportedGraphs, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(base, "CHUNK_BYTES", chunk)
    for linear in graphs.decoder[0].linears:
        wanted = blocks_from_rows(weights.whole(linear.tensor), 16)
        found = filled(NBitsForm(weights, linear, Grid(block=16), "int8-block16"))
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1].reshape(-1))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_table_keeps_rows(
    weights: MergedWeights, graphs: ExportedGraphs, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(base, "CHUNK_BYTES", 1000)
    (table,) = filled(TableForm(weights, graphs.embedding, "float16" if dtype == "float16" else "float32"))
    np.testing.assert_array_equal(table, weights.whole("model.embed_tokens.weight").astype(dtype))


def test_value_that_float16_cannot_hold_is_refused(
    weights: MergedWeights, graphs: ExportedGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = MergedWeights.rows
    monkeypatch.setattr(MergedWeights, "rows", lambda self, name, a, b: rows(self, name, a, b) * np.float32(1e6))
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight holds values above 65504"):
        filled(TableForm(weights, graphs.embedding, "float16"))


def test_forms_must_fill_the_graph(weights: MergedWeights, graphs: ExportedGraphs, tmp_path: Path) -> None:
    plain = [FloatForm(weights, use) for use in graphs.decoder[0].weights.values()]
    with pytest.raises(ValueError, match=r"forms and graph differ in"):
        write_graph(graphs.decoder[0].model, tmp_path / "g.onnx", plain[1:], lambda _: None)


def test_short_writes_are_continued(
    weights: MergedWeights, graphs: ExportedGraphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, place: write(fd, bytes(data[:7]), place))
    table = TableForm(weights, graphs.embedding, "float32")
    write_forms(tmp_path / "t", [table], {table.use.name: 64}, lambda _: None)
    monkeypatch.undo()
    raw = (tmp_path / "t").read_bytes()
    assert raw[64:] == weights.whole("model.embed_tokens.weight").tobytes()
