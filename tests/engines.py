"""Tiny models exported in every form of the graphs, as bundles that an engine can open; and a prompt to feed them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from judo_edge.bundle import Bundle, FileEntry, GraphEntry, Manifest, TensorSpec
from judo_edge.core import Floats, Ints
from judo_edge.export.graphs import GraphForm, GraphSpec, checkpoint_name_from_module_name, graphs_from_config
from judo_edge.export.graphs.spec import PROBE_BIAS, PROBE_WEIGHT
from judo_edge.files import sha256_of_file
from tests.scripted import scripted_manifest
from tests.store import onnx_with_weights
from tests.tiny import TinyShape, tiny_model

IMAGE_SIZE = 56
SHAPE = TinyShape(hidden_size=64, heads=4, kv_heads=2, mrope_section=(2, 3, 3), layers=4)
"""Keys and values of two layers' positions take a multiple of 256 bytes in float16, as TensorRT wants it."""


def form_bundle(folder: Path, form: GraphForm, seed: int = 0, shape: TinyShape = SHAPE) -> Bundle:
    """Trace a tiny random model in a form and write its graphs; nothing but the graphs is real in the bundle."""
    model = tiny_model(seed, shape)
    graphs = graphs_from_config(model.config, IMAGE_SIZE, form)
    tensors = {checkpoint_name_from_module_name(k): v.detach().numpy() for k, v in model.state_dict().items()}
    tensors |= probe_tensors(form, shape.hidden_size)
    folder.mkdir(parents=True, exist_ok=True)
    for graph in (graphs.vision, *graphs.decoder):
        onnx_with_weights(graph, tensors.__getitem__, folder / f"{graph.name}.onnx")
    return Bundle(folder, _manifest(folder, shape, form, (graphs.vision, *graphs.decoder)), "0" * 64)


def probe_tensors(form: GraphForm, hidden: int) -> dict[str, np.ndarray]:
    """Return random tensors of the form's cell probe, in the shapes of its file; none when it has none."""
    if form.probe is None:
        return {}
    rng, values = np.random.default_rng(9), form.probe.values
    weight = rng.standard_normal((values, hidden)).astype(np.float32) / np.float32(hidden**0.5)
    return {PROBE_WEIGHT: weight, PROBE_BIAS: rng.standard_normal(values).astype(np.float32)}


def _manifest(folder: Path, shape: TinyShape, form: GraphForm, graphs: tuple[GraphSpec, ...]) -> Manifest:
    plain = scripted_manifest(shape.vocab_size)
    facts = {
        "num_layers": shape.layers, "num_kv_heads": shape.kv_heads, "hidden_size": shape.hidden_size,
        "head_dim": shape.hidden_size // shape.heads, "vocab_size": shape.vocab_size,
    }  # fmt: skip
    return plain.model_copy(
        update={
            "model": plain.model.model_copy(update=facts),
            "graphs": {graph.name: _entry(graph) for graph in graphs},
            "decoder": tuple(graph.name for graph in graphs[1:]),
            "dialect": form.dialect,
            "dtype": form.dtype,
            "files": {
                path.name: FileEntry(sha256=sha256_of_file(path), bytes=path.stat().st_size)
                for path in sorted(folder.iterdir())
            },
        }
    )


def _entry(graph: GraphSpec) -> GraphEntry:
    inputs, outputs = (
        {spec.name: TensorSpec(dtype=spec.dtype.lower(), shape=spec.shape) for spec in specs}
        for specs in (graph.inputs, graph.outputs)
    )
    file = f"{graph.name}.onnx"
    return GraphEntry(file=file, data=f"{file}.data", opset=20, inputs=inputs, outputs=outputs)


def random_prompt(num_tokens: int, hidden: int = SHAPE.hidden_size, seed: int = 0) -> tuple[Floats, Ints]:
    """Return rows (1, S, D) and positions (3, 1, S) whose axes differ, as those of a photo do."""
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.integers(0, num_tokens, (3, 1, num_tokens)), axis=-1)
    return rng.standard_normal((1, num_tokens, hidden)).astype(np.float32), positions


def form_id(form: GraphForm) -> str:
    """Name a form in a test's id."""
    probe = f"-tap{form.probe.tap}" if form.probe else ""
    return f"{form.dialect}-{form.dtype}-{form.layers_per_segment}-{form.head_parts}{probe}"


FORMS = (
    GraphForm(),
    GraphForm(dtype="float16"),
    GraphForm(layers_per_segment=2, head_parts=2),
    GraphForm(dialect="modern"),
    GraphForm(dialect="modern", dtype="float16", layers_per_segment=3, head_parts=3),
    GraphForm(dialect="modern", head_parts=2),
)
"""Every dialect and type, whole and in pieces."""
