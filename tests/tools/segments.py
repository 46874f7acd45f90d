"""Decoder graphs of full width with random weights, made without a checkpoint: a builder minds sizes and forms only.

    python -m tests.tools.segments [--layers 1 2 4] [--form int8-channel] [--dialect modern]

builds 7B-sized segments with TensorRT for RTX, each in a process of its own, and prints seconds, peak memory and the
factor over the weights: the figures behind `judo_edge.export.tensorrt.memory`.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.export.graphs import GraphForm, GraphSpec, graphs_from_config
from judo_edge.export.quantize import Grid, LinearRewriter
from judo_edge.export.tensorrt import BuildJob, Built, HeadFacts, LayerReport, run_job
from judo_edge.export.tensorrt.memory import BASE
from judo_edge.plans import PlanHeader, current_environment, fixed_sizes, profiles_of, shapes_in
from tests.store import save_model
from tests.tiny import TinyShape, tiny_config

QWEN_7B = TinyShape(
    vocab_size=1024,
    hidden_size=3584,
    intermediate_size=18944,
    layers=1,
    heads=28,
    kv_heads=4,
    rope_theta=1e6,
    mrope_section=(16, 24, 24),
)
"""One decoder layer of Qwen2.5-VL-7B, a small vocabulary and a tiny tower for photos."""
HEADS = HeadFacts(heads=28, kv_heads=4, head_dim=128, capacity=1536)
CAPABILITY = "8.6"
BLOCK = 128
INPUT_SCALE = 0.05


def segment(shape: TinyShape, dialect: Any, form: str) -> GraphSpec:
    """Trace the layers of a shape as one graph and let it read its linear layers in a form."""
    graph_form = GraphForm(dialect=dialect, dtype="float16", layers_per_segment=shape.layers)
    graph = graphs_from_config(tiny_config(shape), 56, graph_form).decoder[0]
    return in_form(graph, form)


def in_form(graph: GraphSpec, form: str, leave: tuple[str, ...] = ()) -> GraphSpec:
    """Return a copy of a graph whose linear layers are in a form: float, int8-channel, int8-static or int4-block.

    Those whose node is named in `leave` stay float.
    """
    copy = replace(graph, model=graph.model.clone())
    rewriter = LinearRewriter(copy)
    bits = 4 if form == "int4-block" else 8
    linears = [linear for linear in copy.linears if form != "float" and linear.node not in leave]
    for linear in linears:
        block = math.gcd(BLOCK, linear.in_features) if bits == 4 else 0  # whole blocks
        scale = INPUT_SCALE if form == "int8-static" else None
        rewriter.use_dequantized(linear, Grid(bits, block, "float16", False), None, scale)
    return copy


def write_random(graph: GraphSpec, folder: Path) -> tuple[Path, int]:
    """Write a graph with random weights and return the file and the bytes of its weights."""
    empty = {v.name: v for v in graph.model.graph.initializers.values() if v.const_value is None}
    path, data = save_model(graph.model, folder / f"{graph.name}.onnx", {str(n): _maker(v) for n, v in empty.items()})
    return path, data.stat().st_size


def _maker(value: Any) -> Callable[[], np.ndarray[Any, Any]]:
    sizes, dtype = value.shape.numpy(), value.dtype.name

    def make() -> np.ndarray[Any, Any]:
        rng = np.random.default_rng(zlib.crc32(value.name.encode()))  # equal weights would be stored once
        if dtype == "INT4":
            return rng.integers(0, 256, int(np.prod(sizes)) // 2, np.uint8)
        if dtype == "INT8":
            return rng.integers(-127, 128, sizes, np.int8)
        return np.resize(
            rng.uniform(0.001, 0.01, 4096).astype(value.dtype.numpy()), sizes
        )  # scales have to be positive

    return make


def built(
    graph: GraphSpec, dialect: str, path: Path, store: Path, heads: HeadFacts = HEADS
) -> tuple[Built, LayerReport]:
    """Build a written graph and return what it took and the builder's kernels."""
    tokens = heads.capacity
    inputs = {spec.name: spec.shape for spec in graph.inputs}
    profiles = profiles_of(inputs, dialect, tokens)
    shapes = tuple(shapes_in(profile, inputs, dialect) for profile in profiles)
    environment = current_environment("tensorrt_rtx", CAPABILITY)
    header = PlanHeader(bundle="0" * 64, graph=graph.name, environment=environment, profiles=profiles)
    facts = heads.model_copy(update={} if dialect == "modern" else {"capacity": 0})
    job = BuildJob(
        onnx=path, store=store, header=header, shapes=shapes, sizes=fixed_sizes(inputs, shapes), facts=facts, ahead=True
    )
    return run_job(job), LayerReport.model_validate_json(job.report_path.read_bytes())


def measured(layers: list[int], form: str, dialect: str) -> Iterator[tuple[int, int, Built]]:
    """Yield (layers, bytes of weights, what the build took) for 7B-sized segments."""
    for count in layers:
        with tempfile.TemporaryDirectory() as folder:
            graph = segment(replace(QWEN_7B, layers=count), dialect, form)
            path, weights = write_random(graph, Path(folder))
            yield count, weights, built(graph, dialect, path, Path(folder) / "plans")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--form", default="int8-channel")
    parser.add_argument("--dialect", default="modern")
    given = parser.parse_args()
    for count, weights, item in measured(given.layers, given.form, given.dialect):
        factor = (item.peak_bytes - BASE) / weights
        print(
            f"{count} layers {given.form} {given.dialect}: weights {weights / 1e9:.3f} GB, plan "
            f"{item.plan_bytes / 1e9:.3f} GB, peak {item.peak_bytes / 1e9:.3f} GB (factor {factor:.2f} over the base), "
            f"{item.seconds:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
