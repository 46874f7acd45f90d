"""What a quantizer and a bundle may rely on: names, forms, no data, no work at run time that could be done before."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from safetensors import safe_open

from judo_edge.errors import CheckpointError
from judo_edge.export.graphs import (
    GraphSpec,
    Transform,
    checkpoint_name_from_module_name,
    graphs_from_config,
)
from tests.tiny import save_tiny_checkpoint, tiny_config, tiny_model
from tests.traced import Traced

OPERATORS = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Neg", "Cos", "Sin", "Sigmoid", "Softmax", "Gelu", "ReduceMean"),
    *("MatMul", "Cast", "Concat", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
}
"""Operators of opset 20 that ONNX Runtime 1.23 runs on CPU and TensorRT 10 parses."""


def both(case: Traced) -> Iterator[GraphSpec]:
    yield from case.graphs.all


def test_every_checkpoint_tensor_is_used_once(case: Traced) -> None:
    names = [use.tensor for graph in both(case) for use in graph.weights.values()]
    names += [] if case.shape.tied else [case.graphs.embedding.tensor]
    parameters = {checkpoint_name_from_module_name(name) for name, _ in case.model.named_parameters()}
    assert sorted(names) == sorted(parameters)


def test_every_matrix_is_one_product_without_a_transpose(case: Traced) -> None:
    for graph in both(case):
        matrices = {name for name, use in graph.weights.items() if use.transform is not Transform.AS_IS}
        assert matrices == {linear.weight for linear in graph.linears}
        nodes = {node.name: node for node in graph.model.graph}
        assert len(nodes) == len(list(graph.model.graph))
        for linear in graph.linears:
            node = nodes[linear.node]
            assert (node.op_type, node.inputs[1].name) == ("MatMul", linear.weight)
            assert tuple(node.inputs[1].shape) == (linear.in_features, linear.out_features)
            followers = [use.node for use in node.outputs[0].uses()]
            added = [value.name for follower in followers for value in follower.inputs if follower.op_type == "Add"]
            assert linear.bias is None or linear.bias in added


def test_nothing_is_computed_from_weights_alone(case: Traced) -> None:
    for graph in both(case):
        for node in graph.model.graph:
            fed = [value for value in node.inputs if value is not None]
            assert any(value.name not in graph.weights for value in fed), node.name


def test_only_small_tables_have_data(case: Traced) -> None:
    for graph in both(case):
        initializers = graph.model.graph.initializers
        assert {name for name, value in initializers.items() if value.const_value is None} == set(graph.weights)
        inside = sum(value.const_value.nbytes for value in initializers.values() if value.const_value is not None)
        assert inside < 1_200_000


def test_only_known_operators_of_one_opset(case: Traced) -> None:
    for graph in both(case):
        assert graph.model.opset_imports == {"": 20}
        assert {(node.domain, node.op_type) for node in graph.model.graph} <= {("", name) for name in OPERATORS}
        assert all(value.dtype is not ir.DataType.DOUBLE for node in graph.model.graph for value in node.outputs)


def test_inputs_and_outputs_are_those_of_the_contract(case: Traced) -> None:
    s, side = case.shape, case.image_size // 14
    vision, decoder = both(case)
    shapes = {spec.name: spec.shape for graph in both(case) for spec in (*graph.inputs, *graph.outputs)}
    kv = (s.layers, 2, "B", s.kv_heads, s.hidden_size // s.heads)
    assert shapes == {
        "pixel_values": ("N", side * side, 1176),
        "embeddings": ("N", side * side // 4, s.hidden_size),
        "features": ("N", side * side, s.vision_hidden),
        "inputs_embeds": ("B", "S", s.hidden_size),
        "positions": (3, "B", "S"),
        "mask": ("B", 1, "S", "P + S"),
        "past": ("P", *kv),
        "rows": ("R",),
        "logits": ("B", "R", s.vocab_size),
        "present": ("S", *kv),
    }
    assert [spec.name for spec in decoder.inputs] == ["inputs_embeds", "positions", "mask", "past", "rows"]
    assert {spec.dtype for spec in vision.inputs} == {"FLOAT"}
    assert {spec.name for spec in decoder.inputs if spec.dtype == "INT64"} == {"positions", "rows"}


def test_the_onnx_checker_passes(case: Traced) -> None:
    for name in ("vision", "decoder"):
        onnx.checker.check_model(str(case.folder / f"{name}.onnx"), full_check=True)


def test_tracing_leaves_the_config_alone() -> None:
    config = tiny_config(layers=1, vision_depth=1)
    before = copy.deepcopy(config)
    graphs_from_config(config, 56)
    assert config.to_dict() == before.to_dict()
    assert config.text_config._attn_implementation == before.text_config._attn_implementation


@pytest.mark.parametrize("native", [False, True])
def test_names_of_both_kinds_of_checkpoint(native: bool, tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path, native_names=native)
    with safe_open(str(folder / "model.safetensors"), "np") as file:
        keys = set(file.keys())
    modules = set(tiny_model().state_dict())
    hub = {checkpoint_name_from_module_name(key) for key in keys}
    assert not any(name.startswith(("model.language_model", "model.visual")) for name in hub)
    assert hub == {checkpoint_name_from_module_name(name) for name in modules}
    assert native == any(key not in hub for key in keys)


@pytest.mark.parametrize(
    ("change", "size", "message"),
    [
        ({}, 100, "multiple of 28"),
        ({"model_type": "qwen2_vl"}, 56, "wanted: qwen2_5_vl"),
        ({"text_config": {"layer_types": ["sliding_attention", "full_attention"]}}, 56, "full_attention"),
    ],
)
def test_what_the_graphs_do_not_cover_is_refused(change: dict[str, object], size: int, message: str) -> None:
    values = tiny_config().to_dict()
    for key, value in change.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    with pytest.raises(CheckpointError, match=message):
        graphs_from_config(values, size)


def test_an_unreadable_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        graphs_from_config(tmp_path, 56)
