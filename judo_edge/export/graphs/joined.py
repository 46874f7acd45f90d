"""The graphs of a model, joined from pieces that are traced once each.

Knows which pieces follow each other and what the graphs' inputs and outputs are called. Knows no numbers and no files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from judo_edge.export.graphs.assemble import Assembly, shape_from
from judo_edge.export.graphs.fake import FakeModel
from judo_edge.export.graphs.pieces import DecoderPieces, VisionPieces
from judo_edge.export.graphs.spec import Rows

_HEAD_WEIGHTS = {"norm.": "model.norm.", "lm_head.": "lm_head."}


@dataclass(frozen=True)
class JoinedGraph:
    """A graph with its name."""

    name: str
    model: ir.Model
    rows: Rows | None = None
    """Part of the vocabulary, when the head is split."""


def vision_graph(model: FakeModel, image_size: int) -> JoinedGraph:
    """Return the graph `pixel_values` (N, patches, 1176) -> `embeddings` (N, tokens, D), `features` (N, patches, F)."""
    pieces = VisionPieces(model, image_size)
    graph, pixels = Assembly("vision", pieces.opset), pieces.pixels
    (hidden,) = graph.add("visual.front", pieces.front, {pixels.name: graph.add_input(pixels)}, {"": "visual."})
    for number in range(pieces.config.depth):
        place, piece = f"visual.blocks.{number}", pieces.block(number)
        (hidden,) = graph.add(place, piece, {"hidden": hidden}, {"block.": f"{place}."})
    tokens, features = graph.add("visual.merger", pieces.merger, {"hidden": hidden}, {"": "visual."})
    return JoinedGraph("vision", graph.model({"embeddings": tokens, "features": features}))


def decoder_graphs(model: FakeModel) -> Iterator[JoinedGraph]:
    """Yield the decoder's graphs in running order."""
    pieces, form = DecoderPieces(model), model.form
    num_layers, vocabulary = model.config.text_config.num_hidden_layers, model.config.text_config.vocab_size
    if form.is_whole:
        yield JoinedGraph("decoder", _layers_graph(pieces, "decoder", range(num_layers), with_head=True))
        return
    step = form.layers_per_segment or num_layers
    for number, start in enumerate(range(0, num_layers, step)):
        name = f"layers-{number:02d}"
        yield JoinedGraph(name, _layers_graph(pieces, name, range(start, min(start + step, num_layers))))
    # Even parts: TensorRT writes the whole weight out as float16 when the outputs are odd in number (LOG.md).
    bounds = [vocabulary * part // form.head_parts // 2 * 2 for part in range(form.head_parts)] + [vocabulary]
    for part, (start, stop) in enumerate(pairwise(bounds)):
        rows = None if form.head_parts == 1 else Rows(start, stop, vocabulary)
        yield JoinedGraph(f"head-{part}", _head_graph(pieces, f"head-{part}", stop - start), rows)


def _layers_graph(pieces: DecoderPieces, name: str, numbers: range, with_head: bool = False) -> ir.Model:
    graph = Assembly(name, pieces.opset)
    stream, positions = graph.add_input(pieces.stream), graph.add_input(pieces.positions)
    is_asked = with_head and pieces.is_last_asked
    if pieces.form.dialect == "modern":
        streams, outputs = _join_modern(graph, pieces, numbers, stream, positions)
    else:
        streams, outputs = _join_legacy(graph, pieces, numbers, stream, positions, is_asked)
    hidden, outputs = streams[-1], {**outputs, **_cells(graph, pieces, dict(zip(numbers, streams, strict=True)))}
    if not with_head:
        return graph.model({"hidden": hidden, **outputs})
    feeds = {"hidden": hidden, "rows": graph.add_input(pieces.rows)}
    (logits,) = graph.add("head", pieces.head(pieces.config.vocab_size, is_asked), feeds, _HEAD_WEIGHTS)
    return graph.model({"logits": logits, **outputs})


def _head_graph(pieces: DecoderPieces, name: str, size: int) -> ir.Model:
    graph = Assembly(name, pieces.opset)
    feeds = {"hidden": graph.add_input(pieces.stream), "rows": graph.add_input(pieces.rows)}
    (logits,) = graph.add("head", pieces.head(size), feeds, _HEAD_WEIGHTS)
    return graph.model({"logits": logits})


def _join_legacy(
    graph: Assembly,
    pieces: DecoderPieces,
    numbers: range,
    hidden: ir.Value,
    positions: ir.Value,
    is_last_asked: bool = False,
) -> tuple[list[ir.Value], dict[str, ir.Value]]:
    """Give each layer its part of `past`, and join their new keys and values to `present`; list what each puts out.

    With `is_last_asked` the last layer puts out the stream of the asked rows alone.
    """
    count = len(numbers)
    mask, past = graph.add_input(pieces.mask), graph.add_input(pieces.joined_cache("past", "P", count))
    shared = _shared(graph, pieces, positions, mask)
    new, streams = [], []
    for index, number in enumerate(numbers):
        place = f"model.layers.{number}"
        feeds = {"hidden": hidden, **shared}
        for which, spec in enumerate(pieces.past_parts):
            feeds[spec.name] = graph.sliced(f"{place}/{spec.name}", past, {1: index, 2: which}, shape_from(spec))
        piece = pieces.layer
        if is_last_asked and number == numbers[-1]:
            piece, feeds = pieces.last_layer, {**feeds, "mask": mask, "rows": graph.add_input(pieces.rows)}
        hidden, present = graph.add(place, piece, feeds, _layer_weights(number))
        new.append(present)
        streams.append(hidden)
    return streams, {"present": graph.joined("present", new, 1, shape_from(pieces.joined_cache("present", "S", count)))}


def _join_modern(
    graph: Assembly, pieces: DecoderPieces, numbers: range, hidden: ir.Value, positions: ir.Value
) -> tuple[list[ir.Value], dict[str, ir.Value]]:
    """Give each layer its two caches and the tables that all of them share; list what each puts out."""
    mask, write = graph.add_input(pieces.mask), graph.add_input(pieces.write)
    shared = {"write": write, **_shared(graph, pieces, positions, mask)}
    outputs: dict[str, ir.Value] = {}
    streams = []
    for number in numbers:
        key, value = (graph.add_input(pieces.capacity(f"past_{kind}_{number}")) for kind in ("key", "value"))
        feeds = {"hidden": hidden, "past_key": key, "past_value": value, **shared}
        hidden, *caches = graph.add(f"model.layers.{number}", pieces.layer, feeds, _layer_weights(number))
        outputs.update(zip((f"present_key_{number}", f"present_value_{number}"), caches, strict=True))
        streams.append(hidden)
    return streams, outputs


def _cells(graph: Assembly, pieces: DecoderPieces, streams: Mapping[int, ir.Value]) -> dict[str, ir.Value]:
    """Return the output of the cell probe, if the form has one and its layer is here; `streams` is by layer."""
    probe = pieces.form.probe
    if probe is None or probe.tap - 1 not in streams:
        return {}
    feeds = {"hidden": streams[probe.tap - 1]}
    (cells,) = graph.add("cell_probe", pieces.probe(probe.values), feeds, {"linear.": "cell_probe."})
    return {"cells": cells}


def _shared(graph: Assembly, pieces: DecoderPieces, positions: ir.Value, mask: ir.Value) -> dict[str, ir.Value]:
    """Return what all layers read."""
    tables = graph.add("tables", pieces.tables, {"positions": positions, "mask": mask}, {})
    return dict(zip((spec.name for spec in pieces.table_specs), tables, strict=True))


def _layer_weights(number: int) -> dict[str, str]:
    return {"layer.": f"model.layers.{number}."}
