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
    GraphForm,
    GraphSpec,
    checkpoint_name_from_module_name,
    graphs_from_config,
)
from tests.store import onnx_with_weights
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
        return self._output("embeddings", patches)

    def features(self, patches: Floats) -> Floats:
        return self._output("features", patches)

    def _output(self, name: str, patches: Floats) -> Floats:
        values: Floats = self.vision.run([name], {"pixel_values": patches.astype(self.graphs.form.dtype)})[0]
        return values.astype(np.float32)

    def decode(self, embeds: Floats, positions: Ints, mask: Floats, past: Floats, rows: Any) -> tuple[Floats, Floats]:
        feeds = {"inputs_embeds": embeds, "positions": positions, "mask": mask, "past": past}
        logits, present = self.decoder.run(None, feeds | {"rows": np.asarray(rows, np.int64)})
        return logits, present


class Decoding:
    """The decoder's graphs of any form, run one after the other over a cache that is kept here."""

    def __init__(self, case: Traced, capacity: int, stale: float = 0.0) -> None:
        """Make room for `capacity` positions; `stale` fills what is not written yet."""
        s = case.shape
        self.dtype = np.dtype(case.graphs.form.dtype)
        self.graphs = [(graph, session_from(case.folder / f"{graph.name}.onnx")) for graph in case.graphs.decoder]
        width = s.hidden_size // s.heads
        self.past = np.zeros((0, s.layers, 2, 1, s.kv_heads, width), self.dtype)
        caches = [f"{kind}_{layer}" for kind in ("key", "value") for layer in range(s.layers)]
        self.caches = {name: np.full((1, s.kv_heads, capacity, width), stale, self.dtype) for name in caches}
        self.capacity, self.length = capacity, 0

    def rewind(self, length: int) -> None:
        """Forget positions from `length` on; a modern cache keeps what lies there."""
        self.past, self.length = self.past[:length], length

    def advance(self, embeds: Floats, positions: Ints, rows: Any) -> Floats:
        """Append positions and return the logits of `rows` in float32."""
        feeds, size = self._feeds(embeds, positions, rows), embeds.shape[1]
        logits, new = [], []
        for graph, session in self.graphs:
            found = self._run(graph, session, feeds)
            feeds["inputs_embeds"] = found.get("hidden", feeds["inputs_embeds"])
            logits += [found[name] for name in found if name == "logits"]
            new += [found[name] for name in found if name == "present"]
            self.caches |= {name.removeprefix("present_"): found[name] for name in found if name.startswith("present_")}
        if new:
            self.past = np.concatenate([self.past, np.concatenate(new, axis=1)])
        self.length += size
        return np.concatenate(logits, axis=2).astype(np.float32)

    def _feeds(self, embeds: Floats, positions: Ints, rows: Any) -> dict[str, Any]:
        total, size = self.length + embeds.shape[1], embeds.shape[1]
        drop = np.full((1, 1, size, max(self.capacity, total)), -30000 if self.dtype == np.float16 else DROP)
        drop[..., :total] = np.where(np.tri(size, total, self.length, np.bool_), 0, drop[..., :total])
        feeds = {"inputs_embeds": embeds.astype(self.dtype), "positions": positions, "mask": drop.astype(self.dtype)}
        return feeds | {"rows": np.asarray(rows, np.int64), "write": np.array([self.length], np.int64)}

    def _run(self, graph: GraphSpec, session: Any, feeds: dict[str, Any]) -> dict[str, Any]:
        names = [spec.name for spec in graph.inputs]
        layers = [int(name.split(".")[2]) for name in graph.weights if name.startswith("model.layers.")]
        given = {f"past_{name}": cache for name, cache in self.caches.items()} | feeds
        if "past" in names:
            given["past"] = self.past[:, min(layers) : max(layers) + 1]
            given["mask"] = feeds["mask"][..., : self.length + feeds["mask"].shape[2]]
        found = session.run(None, {name: given[name] for name in names})
        return dict(zip([spec.name for spec in graph.outputs], found, strict=True))


def traced(folder: Path, image_size: int = 56, seed: int = 0, form: GraphForm | None = None, **changes: Any) -> Traced:
    """Trace a tiny model and write its graphs with its weights into `folder`."""
    shape = TinyShape(**changes)
    model = tiny_model(seed, shape)
    graphs = graphs_from_config(model.config, image_size, form or GraphForm())
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
    mask: Floats = np.where(visible, np.float32(0), DROP)[:, None, past:]
    return mask
