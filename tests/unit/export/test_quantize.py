"""Int8 blocks: the numpy reference, ONNX Runtime's reading of the layout, and the loss against float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from judo_edge.core import Floats
from judo_edge.export.graphs import GraphSpec, LinearUse, Transform, WeightUse, save_model
from judo_edge.export.quantize import blocks_from_rows, int8_names, num_blocks, rows_from_blocks, use_int8
from judo_edge.export.recipe import Int8Form
from tests.traced import session_from

NAME = "model.layers.0.mlp.up_proj.weight"
CASES = [(256, 128, 64), (704, 128, 33), (704, 32, 33), (44, 32, 7), (3420, 128, 16), (1, 16, 1), (128, 256, 5)]


def random_rows(rows: int, width: int, seed: int = 0) -> Floats:
    generator = np.random.default_rng(seed)
    scale = np.exp(generator.normal(0, 1, (rows, 1)))
    return (generator.standard_normal((rows, width)) * scale).astype(np.float32)


def graph_of(linear: LinearUse) -> GraphSpec:
    """Return a graph of one MatMul followed by an Add, as tracing leaves it."""
    x = ir.Value(name="x", shape=ir.Shape(["B", "S", linear.in_features]), type=ir.TensorType(ir.DataType.FLOAT))
    shapes = {NAME: (linear.in_features, linear.out_features), "bias": (linear.out_features,)}
    weight, bias = (
        ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
        for name, shape in shapes.items()
    )
    product = ir.node("MatMul", [x, weight], name=linear.node)
    total = ir.node("Add", [product.outputs[0], bias], name="add")
    for node in (product, total):
        node.outputs[0].shape = ir.Shape(["B", "S", linear.out_features])
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    product.outputs[0].name, total.outputs[0].name = "product", "y"
    nodes, values = [product, total], [weight, bias]
    graph = ir.Graph([x], [total.outputs[0]], nodes=nodes, initializers=values, opset_imports={"": 20}, name="g")
    uses = {
        NAME: WeightUse(NAME, NAME, Transform.TRANSPOSE, shapes[NAME]),
        "bias": WeightUse("bias", "bias", Transform.AS_IS, shapes["bias"]),
    }
    return GraphSpec("decoder", ir.Model(graph, ir_version=10), uses, (linear,))


def run_int8(folder: Path, rows: Floats, bias: Floats, form: Int8Form, x: Floats) -> Floats:
    """Quantize one linear layer, write its graph and run it in ONNX Runtime."""
    linear = LinearUse(NAME.removesuffix(".weight"), NAME, "bias", NAME, rows.shape[1], rows.shape[0])
    graph = graph_of(linear)
    use_int8(graph, linear, form)
    weights, scales = blocks_from_rows(rows, form.block)
    names = int8_names(NAME)
    values = {names[0]: lambda: weights, names[1]: lambda: scales.reshape(-1), "bias": lambda: bias}
    path, _ = save_model(graph.model, folder / "g.onnx", values)
    output: Floats = session_from(path).run(None, {"x": x})[0]
    return output


@pytest.mark.parametrize(("width", "block", "count"), CASES)
def test_blocks_stand_for_the_rows_within_half_a_step(width: int, block: int, count: int) -> None:
    rows = random_rows(count, width)
    weights, scales = blocks_from_rows(rows, block)
    assert weights.shape == (count, num_blocks(width, block), block) and weights.dtype == np.uint8
    assert scales.shape == weights.shape[:2] and scales.dtype == np.float32
    assert weights.min() >= 1 and weights.max() <= 255
    step = np.repeat(scales, block, axis=1)[:, :width]
    assert (np.abs(rows_from_blocks(weights, scales, width) - rows) <= step * 0.5001).all()


def test_padding_is_the_zero_point_and_does_not_change_scales() -> None:
    rows = random_rows(3, 40)
    weights, scales = blocks_from_rows(rows, 32)
    assert (weights[:, 1, 8:] == 128).all()
    np.testing.assert_array_equal(scales[:, 1], np.abs(rows[:, 32:]).max(axis=1) / np.float32(127))


def test_zeros_and_tiny_values_stay_finite() -> None:
    rows = np.zeros((2, 32), np.float32)
    rows[1, 3] = 1e-44
    weights, scales = blocks_from_rows(rows, 32)
    assert np.isfinite(scales).all() and (scales > 0).all()
    np.testing.assert_allclose(rows_from_blocks(weights, scales, 32), rows, atol=1e-40)


@pytest.mark.parametrize(("width", "block", "count"), CASES)
def test_onnxruntime_reads_the_layout_as_we_mean_it(tmp_path: Path, width: int, block: int, count: int) -> None:
    rows, bias = random_rows(count, width), random_rows(1, count)[0]
    x = np.random.default_rng(1).standard_normal((2, 3, width)).astype(np.float32)
    wanted = x @ rows_from_blocks(*blocks_from_rows(rows, block), width).T + bias
    exact = run_int8(tmp_path, rows, bias, Int8Form(block=block, accuracy_level=1), x)
    np.testing.assert_allclose(exact, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("block", [32, 128])
def test_loss_against_float32_is_small(tmp_path: Path, block: int) -> None:
    rows, bias = random_rows(64, 704), np.zeros(64, np.float32)
    x = np.random.default_rng(1).standard_normal((1, 50, 704)).astype(np.float32)
    wanted = x @ rows.T
    loss = {}
    for level in (1, 4):
        found = run_int8(tmp_path, rows, bias, Int8Form(block=block, accuracy_level=level), x)
        loss[level] = float(np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean()))
    assert 1e-4 < loss[1] < 0.010
    assert 1e-4 < loss[4] < 0.014
