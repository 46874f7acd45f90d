"""Fixing named sizes in a serialized graph changes those sizes and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from judo_edge.errors import BundleError
from judo_edge.export.tensorrt.model import model_with_sizes

FLOAT = onnx.TensorProto.FLOAT


def model() -> onnx.ModelProto:
    info = onnx.helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(np.arange(300, dtype=np.float32).reshape(3, 100), "w")
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["m"]), onnx.helper.make_node("Relu", ["m"], ["y"])]
    inner = [info("m", FLOAT, ["B", "C", 100])]
    graph = onnx.helper.make_graph(
        nodes, "g", [info("x", FLOAT, ["B", "C", 3])], [info("y", FLOAT, ["B", "C", 100])], [weight], value_info=inner
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])


def test_named_sizes_are_fixed_everywhere_and_others_stay() -> None:
    fixed = onnx.load_from_string(model_with_sizes(model().SerializeToString(), {"C": 1536, "unknown": 3}))
    onnx.checker.check_model(fixed, full_check=True)
    for value in (*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info):
        batch, columns, _ = value.type.tensor_type.shape.dim
        assert batch.dim_param == "B" and columns.dim_value == 1536 and not columns.dim_param
    again = model()
    for value in (*again.graph.input, *again.graph.output, *again.graph.value_info):
        value.type.tensor_type.shape.dim[1].dim_value = 1536
    assert fixed == again


def test_nothing_to_fix_changes_no_byte() -> None:
    data = model().SerializeToString()
    assert model_with_sizes(data, {}) == data


@pytest.mark.parametrize("size", [1, 40, -3])
def test_a_file_cut_short_is_refused(size: int) -> None:
    with pytest.raises(BundleError):
        model_with_sizes(model().SerializeToString()[:size], {"C": 2})
