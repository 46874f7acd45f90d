"""Numbers stream to disk one tensor at a time; a failure leaves what existed."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from judo_edge.errors import CheckpointError, OutputError
from judo_edge.export.graphs import GraphSpec, Transform, WeightUse
from judo_edge.export.stream import ALIGNMENT
from tests.store import lazy_tensors, onnx_with_weights, values_from_tensor
from tests.traced import session_from

ROWS = 64


def small_graph() -> GraphSpec:
    """Return y = (x @ a) @ b with two matrices without data."""
    x = ir.val("x", ir.DataType.FLOAT, ("N", ROWS))
    a, b = (ir.val(name, ir.DataType.FLOAT, (ROWS, ROWS)) for name in ("a.weight", "b.weight"))
    first = ir.node("MatMul", [x, a], name="a")
    second = ir.node("MatMul", [first.outputs[0], b], name="b")
    second.outputs[0].name, first.outputs[0].name = "y", "h"
    second.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], second.outputs, nodes=[first, second], initializers=[a, b], opset_imports={"": 20}, name="g")
    uses = {name: WeightUse(name, name, Transform.TRANSPOSE, (ROWS, ROWS)) for name in ("a.weight", "b.weight")}
    return GraphSpec("small", ir.Model(graph, ir_version=10), uses, ())


def numbers(name: str) -> Any:
    return np.random.default_rng(len(name) + ord(name[0])).normal(size=(ROWS, ROWS)).astype(np.float32)


def product(path: Path) -> Any:
    return session_from(path).run(None, {"x": np.eye(ROWS, dtype=np.float32)})[0]


def test_values_arrive_transposed_and_aligned(tmp_path: Path) -> None:
    graph = small_graph()
    path, data = onnx_with_weights(graph, numbers, tmp_path / "g.onnx")
    np.testing.assert_allclose(product(path), numbers("a.weight").T @ numbers("b.weight").T, atol=1e-4)
    assert data.stat().st_size == ALIGNMENT * 4 + ROWS * ROWS * 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["g.onnx", "g.onnx.data"]
    assert all(value.const_value is None for value in graph.model.graph.initializers.values())


def test_one_tensor_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[Any]] = []

    def source(name: str) -> Any:
        assert all(reference() is None for reference in alive)
        tensor = numbers(name)
        alive.append(weakref.ref(tensor))
        return tensor

    onnx_with_weights(small_graph(), source, tmp_path / "g.onnx")
    assert len(alive) == 2


def test_a_quantizer_may_add_initializers(tmp_path: Path) -> None:
    graph = small_graph()
    node = graph.model.graph.node("b")
    stored = ir.val("b.weight_int8", ir.DataType.INT8, (ROWS, ROWS))
    scale = ir.val("b.weight_scale", ir.DataType.FLOAT, ())
    graph.model.graph.initializers.update({str(value.name): value for value in (stored, scale)})
    cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name="b.cast")  # runtimes round where they fuse DQ
    restored = ir.node("Mul", [cast.outputs[0], scale], name="b.scale")
    graph.model.graph.insert_before(node, [cast, restored])
    node.replace_input_with(1, restored.outputs[0])
    del graph.model.graph.initializers["b.weight"]
    whole = np.round(numbers("b.weight").T * 10).astype(np.int8)
    extra = {"b.weight_int8": lambda: whole, "b.weight_scale": lambda: np.array(0.1, np.float32)}
    assert set(lazy_tensors(graph, numbers)) == {"a.weight"}
    path, _ = onnx_with_weights(graph, numbers, tmp_path / "g.onnx", extra)
    np.testing.assert_allclose(product(path), numbers("a.weight").T @ (whole * np.float32(0.1)), atol=1e-4)


def test_a_failing_source_leaves_the_old_files(tmp_path: Path) -> None:
    path, data = onnx_with_weights(small_graph(), numbers, tmp_path / "g.onnx")
    before = path.read_bytes(), data.read_bytes()

    def source(name: str) -> Any:
        return numbers(name) if name == "a.weight" else numbers(name)[:5]

    with pytest.raises(CheckpointError, match=r"b\.weight of shape \(5, 64\)"):
        onnx_with_weights(small_graph(), source, path)
    assert (path.read_bytes(), data.read_bytes()) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["g.onnx", "g.onnx.data"]


def test_a_refusing_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="room and permission"):
        onnx_with_weights(small_graph(), numbers, tmp_path / "absent" / "g.onnx")
    with pytest.raises(ValueError, match=r"b\.weight"):
        onnx_with_weights(small_graph(), numbers, tmp_path / "g.onnx", {"b.weight": lambda: np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_a_patch_kernel_becomes_a_matrix() -> None:
    kernel = np.arange(2 * 3 * 2 * 4 * 4, dtype=np.float32).reshape(2, 3, 2, 4, 4)
    use = WeightUse("p", "p", Transform.PATCH, (96, 2))
    np.testing.assert_array_equal(values_from_tensor(use, kernel), kernel.reshape(2, 96).T)
