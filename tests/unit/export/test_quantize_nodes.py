"""The nodes that read integers: ONNX Runtime computes what the dequantized weights give, and fuses what it can."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from judo_edge.core import Floats
from judo_edge.export.graphs import GraphSpec, LinearUse, Transform, WeightUse
from judo_edge.export.quantize import (
    Grid,
    LinearRewriter,
    Smoothing,
    blocks_from_codes,
    columns_from_codes,
    nibbles_from_codes,
    part_names,
    quantized,
    rows_from_codes,
    smoothing_from_vector,
)
from tests.store import save_model
from tests.traced import session_from

UP, GATE = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.gate_proj.weight"
SIZES = [(256, 64), (704, 33), (44, 7), (3420, 16), (1, 1)]


def random_rows(rows: int, width: int, seed: int = 0) -> Floats:
    generator = np.random.default_rng(seed)
    scale = np.exp(generator.normal(0, 1, (rows, 1))) * width**-0.5
    return (generator.standard_normal((rows, width)) * scale).astype(np.float32)


def graph_of(width: int, outputs: Mapping[str, int], dtype: str = "float32") -> GraphSpec:
    """Return a graph of one MatMul and Add for each name, all reading the same input, as tracing leaves them."""
    kind = ir.DataType.from_numpy(np.dtype(dtype))
    x = ir.Value(name="x", shape=ir.Shape(["B", "S", width]), type=ir.TensorType(kind))
    values, nodes, uses, linears = [], [], {}, []
    for name, count in outputs.items():
        shapes = {name: (width, count), f"{name}.bias": (count,)}
        pair = [ir.Value(name=n, shape=ir.Shape(s), type=ir.TensorType(kind)) for n, s in shapes.items()]
        product = ir.node("MatMul", [x, pair[0]], name=name.removesuffix(".weight"))
        total = ir.node("Add", [product.outputs[0], pair[1]], name=f"{name}.add")
        for node, output in ((product, f"{name}.product"), (total, f"{name}.y")):
            node.outputs[0].name, node.outputs[0].shape = output, ir.Shape(["B", "S", count])
            node.outputs[0].type = ir.TensorType(kind)
        values += pair
        nodes += [product, total]
        uses |= {
            n: WeightUse(n, n, Transform.TRANSPOSE if n == name else Transform.AS_IS, s) for n, s in shapes.items()
        }
        linears.append(LinearUse(str(product.name), name, f"{name}.bias", name, width, count))
    results = [node.outputs[0] for node in nodes[1::2]]
    graph = ir.Graph([x], results, nodes=nodes, initializers=values, opset_imports={"": 20}, name="g")
    return GraphSpec("decoder", ir.Model(graph, ir_version=10), uses, tuple(linears))


def written(folder: Path, graph: GraphSpec, stored: Mapping[str, np.ndarray], bias: float = 0.5) -> Path:
    biases = {
        linear.bias: np.full(linear.out_features, bias, graph.model.graph.inputs[0].dtype.numpy())
        for linear in graph.linears
    }
    path, _ = save_model(graph.model, folder / "g.onnx", {n: lambda v=v: v for n, v in {**biases, **stored}.items()})
    onnx.checker.check_model(str(path), full_check="MatMulNBits" not in kinds(graph))
    return path


def kinds(graph: GraphSpec) -> list[str]:
    return [node.op_type for node in graph.model.graph]


def stored_nbits(linear: LinearUse, rows: Floats, grid: Grid) -> dict[str, np.ndarray]:
    codes, scales = quantized(rows, grid)
    names = part_names(linear.weight, grid.bits)
    return {names[0]: blocks_from_codes(codes, grid), names[1]: scales.astype(grid.scale_type).reshape(-1)}


def stored_columns(linear: LinearUse, rows: Floats, grid: Grid) -> dict[str, np.ndarray]:
    codes, scales = quantized(rows, grid)
    columns = columns_from_codes(codes)
    names = part_names(linear.weight, grid.bits)
    by_output = scales.T.astype(grid.scale_type)
    return {
        names[0]: nibbles_from_codes(columns) if grid.bits == 4 else columns,
        names[1]: by_output if grid.block else by_output[0],
    }


def dequantized(rows: Floats, grid: Grid) -> Floats:
    return rows_from_codes(*quantized(rows, grid), grid)


def example(width: int) -> Floats:
    return np.random.default_rng(1).standard_normal((2, 3, width)).astype(np.float32)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize(("width", "count"), SIZES)
def test_matmulnbits_reads_the_layout_as_we_mean_it(
    tmp_path: Path, bits: int, block: int, width: int, count: int
) -> None:
    graph, grid, rows, x = (
        graph_of(width, {UP: count}),
        Grid(4 if bits == 4 else 8, block),
        random_rows(count, width),
        example(width),
    )
    LinearRewriter(graph).use_nbits(graph.linears[0], grid, 1)
    assert kinds(graph) == ["MatMulNBits", "Add"] and graph.model.graph.outputs[0].name == f"{UP}.y"
    found = session_from(written(tmp_path, graph, stored_nbits(graph.linears[0], rows, grid))).run(None, {"x": x})[0]
    wanted = x @ dequantized(rows, grid).T + 0.5
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("bits", [8, 4])
def test_loss_against_float32_is_small(tmp_path: Path, bits: int) -> None:
    rows = random_rows(64, 704)
    x = np.random.default_rng(1).standard_normal((1, 50, 704)).astype(np.float32)
    grid, loss = Grid(4 if bits == 4 else 8, 128), {}
    for level in (1, 4):
        graph = graph_of(704, {UP: 64})
        LinearRewriter(graph).use_nbits(graph.linears[0], grid, level)
        found = session_from(written(tmp_path, graph, stored_nbits(graph.linears[0], rows, grid), 0)).run(
            None, {"x": x}
        )[0]
        wanted = x @ rows.T
        loss[level] = float(np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean()))
    limits = (0.010, 0.014) if bits == 8 else (0.14, 0.14)
    assert 1e-4 < loss[1] < limits[0] and 1e-4 < loss[4] < limits[1]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("form", ["int8-channel", "int4-block"])
@pytest.mark.parametrize(("width", "count"), [(256, 64), (704, 34), (44, 8), (3420, 16)])
def test_dequantized_weights_equal_their_floats(tmp_path: Path, dtype: str, form: str, width: int, count: int) -> None:
    scale_type: Any = dtype
    block = 16 if width % 16 == 0 else 4
    grid = Grid(8, 0, scale_type) if form == "int8-channel" else Grid(4, block, scale_type)
    graph, rows = graph_of(width, {UP: count}, dtype), random_rows(count, width)
    LinearRewriter(graph).use_dequantized(graph.linears[0], grid)
    assert kinds(graph) == ["DequantizeLinear", "MatMul", "Add"]
    assert graph.model.opset_imports[""] == (20 if form == "int8-channel" else 21)
    x = example(width).astype(dtype)
    found = plain_session(written(tmp_path, graph, stored_columns(graph.linears[0], rows, grid))).run(None, {"x": x})[0]
    wanted = x.astype(np.float32) @ dequantized(rows, grid).T + 0.5
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, wanted, rtol=0, atol=(2e-5 if dtype == "float32" else 3e-3) * np.abs(wanted).max()
    )


def plain_session(path: Path) -> Any:
    """Open a graph without fusions: each operator by its definition."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def smoothed(width: int, dtype: Any = "float32") -> Smoothing:
    vector = np.exp(np.random.default_rng(7).normal(0, 1, width)).astype(np.float32)
    smoothing = smoothing_from_vector(vector, dtype, UP)
    assert smoothing is not None
    return smoothing


def test_layers_of_one_input_share_what_they_can(tmp_path: Path) -> None:
    """One product with the vector and one rounding for both; the sum equals plain arithmetic with rounded inputs."""
    width, scale, grid, x = 48, 0.03, Grid(), example(48)
    graph, smoothing = graph_of(width, {UP: 6, GATE: 9}), smoothed(48)
    rewriter, stored, wanted = LinearRewriter(graph), {}, []
    for linear in reversed(graph.linears):
        rewriter.use_dequantized(linear, grid, smoothing, scale)
    rounded = np.clip(np.rint(x * smoothing.multiplier / np.float32(scale)), -128, 127) * np.float32(scale)
    for seed, linear in enumerate(graph.linears):
        rows = random_rows(linear.out_features, width, seed) * smoothing.factor
        stored |= stored_columns(linear, rows, grid)
        wanted.append(rounded @ dequantized(rows, grid).T + 0.5)
    found = plain_session(written(tmp_path, graph, stored)).run(None, {"x": x})
    assert sorted(kinds(graph)) == [
        "Add",
        "Add",
        *["DequantizeLinear"] * 3,
        "MatMul",
        "MatMul",
        "Mul",
        "QuantizeLinear",
    ]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * np.abs(other).max())


def test_layers_with_other_vectors_or_scales_share_nothing() -> None:
    graph, smoothing = graph_of(48, {UP: 6, GATE: 6}), smoothed(48)
    rewriter = LinearRewriter(graph)
    rewriter.use_dequantized(graph.linears[0], Grid(), smoothing, 0.03)
    rewriter.use_dequantized(graph.linears[1], Grid(), None, 0.03)
    assert kinds(graph).count("Mul") == 1 and kinds(graph).count("QuantizeLinear") == 2


@pytest.mark.parametrize("bits", [8, 4])
def test_smoothing_does_not_change_the_result(tmp_path: Path, bits: int) -> None:
    graph, grid, smoothing, x = graph_of(48, {UP: 6}), Grid(4 if bits == 4 else 8, 16), smoothed(48), example(48)
    LinearRewriter(graph).use_nbits(graph.linears[0], grid, 1, smoothing)
    rows = random_rows(6, 48)
    stored = stored_nbits(graph.linears[0], rows * smoothing.factor, grid)
    found = session_from(written(tmp_path, graph, stored, 0)).run(None, {"x": x})[0]
    wanted = x @ (dequantized(rows * smoothing.factor, grid) * smoothing.multiplier).T
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
    assert np.abs(found - x @ rows.T).max() < 0.3 * np.abs(wanted).max()


def test_onnxruntime_fuses_static_int8(tmp_path: Path) -> None:
    """W8A8 becomes one integer product with float output, not a chain of dequantized floats."""
    graph, grid = graph_of(256, {UP: 64}), Grid()
    LinearRewriter(graph).use_dequantized(graph.linears[0], grid, smoothed(256), 0.03)
    path = written(tmp_path, graph, stored_columns(graph.linears[0], random_rows(64, 256), grid))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ops = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph.node]
    assert "MatMulIntegerToFloat" in ops and "MatMul" not in ops and "DequantizeLinear" not in ops
