"""Tiny models traced, written and opened in ONNX Runtime, beside the transformers model that they must equal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.core import Bools, Floats, Ints
from judo_edge.export.graphs import (
    ExportedGraphs,
    checkpoint_name_from_module_name,
    graphs_from_config,
    onnx_with_weights,
)
from tests.tiny import TinyShape, tiny_model

DROP = np.float32(-1e9)


@dataclass(frozen=True)
class Traced:
    """One model in both forms."""

    shape: TinyShape
    image_size: int
    model: Any
    graphs: ExportedGraphs
    folder: Path

    @cached_property
    def vision(self) -> Any:
        return session_from(self.folder / "vision.onnx")

    @cached_property
    def decoder(self) -> Any:
        return session_from(self.folder / "decoder.onnx")

    @property
    def merged_side(self) -> int:
        return self.image_size // 28

    def empty_past(self, batch: int) -> Floats:
        s = self.shape
        return np.zeros((0, s.layers, 2, batch, s.kv_heads, s.hidden_size // s.heads), np.float32)

    def encode(self, patches: Floats) -> Floats:
        embeddings: Floats = self.vision.run(None, {"pixel_values": patches})[0]
        return embeddings

    def decode(self, embeds: Floats, positions: Ints, mask: Floats, past: Floats, rows: Any) -> tuple[Floats, Floats]:
        feeds = {"inputs_embeds": embeds, "positions": positions, "mask": mask, "past": past}
        logits, present = self.decoder.run(None, feeds | {"rows": np.asarray(rows, np.int64)})
        return logits, present


def traced(folder: Path, image_size: int = 56, seed: int = 0, **changes: Any) -> Traced:
    """Trace a tiny model and write both graphs with its weights into `folder`."""
    shape = TinyShape(**changes)
    model = tiny_model(seed, shape)
    graphs = graphs_from_config(model.config, image_size)
    tensors = {checkpoint_name_from_module_name(k): v.detach().numpy() for k, v in model.state_dict().items()}
    for graph in graphs.all:
        onnx_with_weights(graph, tensors.__getitem__, folder / f"{graph.name}.onnx")
    return Traced(shape, image_size, model, graphs, folder)


def session_from(path: Path) -> Any:
    """Open a graph in ONNX Runtime on one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def causal_mask(valid: Bools, past: int = 0) -> Floats:
    """Return the additive mask (B, 1, S, P + S) of tokens `valid` (B, P + S); the first `past` are in the KV."""
    total = valid.shape[1]
    visible = np.tril(np.ones((total, total), np.bool_))[None] & valid[:, None, :]
    return np.where(visible, np.float32(0), DROP)[:, None, past:]
