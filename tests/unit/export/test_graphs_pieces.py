"""What each form promises: its operators, its types, its inputs and outputs, and every tensor once."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from judo_edge.errors import ConfigError
from judo_edge.export.graphs import GraphForm, checkpoint_name_from_module_name, graphs_from_config
from tests.dialects import FORMS, Models
from tests.tiny import tiny_config
from tests.traced import Traced


def all_graphs(case: Traced) -> list[ir.Graph]:
    return [graph.model.graph for graph in case.graphs.all]


@pytest.mark.parametrize("form", ["modern", "modern-half-cut", "legacy-half"])
def test_a_dialect_uses_its_operators_alone(models: Models, form: str) -> None:
    case = models("grouped", form)
    new = {"RMSNormalization", "RotaryEmbedding", "TensorScatter", "Attention"}
    used = {(node.domain, node.op_type) for graph in all_graphs(case) for node in graph}
    assert {domain for domain, _ in used} == {""}
    assert {name for _, name in used} & new == (new if case.graphs.form.dialect == "modern" else set())
    opset = 24 if case.graphs.form.dialect == "modern" else 20
    assert all(graph.opset_imports == {"": opset} for graph in all_graphs(case))
    assert all(len(node.outputs) == 1 for graph in all_graphs(case) for node in graph if node.op_type == "Attention")
    for graph in case.graphs.all:
        onnx.checker.check_model(str(case.folder / f"{graph.name}.onnx"), full_check=True)


@pytest.mark.parametrize("form", list(FORMS))
def test_keys_and_values_are_never_copied_for_each_query_head(models: Models, shape: str, form: str) -> None:
    """A value over cached positions that has both the query heads and the head's width would be such a copy."""
    case = models(shape, form)
    heads, width = case.shape.heads, case.shape.hidden_size // case.shape.heads
    for graph in all_graphs(case):
        for node in graph:
            assert node.op_type not in ("Tile", "Expand")
            sizes = [str(size) for output in node.outputs if output.shape is not None for size in output.shape]
            if any(size in ("C", "P", "P + S") for size in sizes) and str(width) in sizes:
                assert str(heads) not in sizes and f"{heads * width}" not in sizes, node.name


@pytest.mark.parametrize("form", ["modern", "legacy-half", "modern-half"])
def test_floats_have_the_type_of_the_form(models: Models, form: str) -> None:
    case = models("grouped", form)
    wanted = {"float32": "FLOAT", "float16": "FLOAT16"}[case.graphs.form.dtype]
    for graph in case.graphs.all:
        assert {spec.dtype for spec in (*graph.inputs, *graph.outputs)} <= {wanted, "INT64"}
        wide = {name for name, use in graph.weights.items() if use.dtype != case.graphs.form.dtype}
        assert all(name.startswith("visual.") and ("norm" in name or "ln_q" in name) for name in wide)
        assert {use.dtype for use in graph.weights.values()} >= {case.graphs.form.dtype}


@pytest.mark.parametrize(
    ("form", "last"), [("legacy", "R"), ("legacy-half", "R"), ("legacy-cut", "S"), ("modern", "S")]
)
def test_the_last_layer_of_a_whole_legacy_decoder_leaves_out_rows(models: Models, form: str, last: str) -> None:
    case = models("grouped", form)
    nodes = {str(node.name): node for graph in all_graphs(case) for node in graph}
    down = [nodes[f"model.layers.{number}.mlp.down_proj"].outputs[0].shape for number in range(case.shape.layers)]
    assert [str(shape[1]) for shape in down if shape is not None] == ["S"] * (case.shape.layers - 1) + [last]


@pytest.mark.parametrize("form", ["legacy-cut", "modern-cut"])
def test_the_pieces_of_a_cut_decoder_hold_every_tensor_once(models: Models, shape: str, form: str) -> None:
    case = models(shape, form)
    parts = case.graphs.form.head_parts
    names = [graph.name for graph in case.graphs.decoder]
    assert names == ["layers-00", "layers-01", *(f"head-{number}" for number in range(parts))]
    uses = [use for graph in case.graphs.all for use in graph.weights.values()]
    heads = [use for use in uses if use.rows is not None]
    assert [use.name for use in heads] == ["lm_head.weight"] * parts
    rows = [use.rows for use in heads if use.rows is not None]
    assert [n for part in rows for n in range(part.start, part.stop)] == list(range(case.shape.vocab_size))
    assert {part.total for part in rows} == {case.shape.vocab_size}
    names = [use.tensor for use in uses if use.rows is None and use.name != "model.norm.weight"]
    names += ["model.norm.weight", "model.embed_tokens.weight", *([] if case.shape.tied else ["lm_head.weight"])]
    wanted = {checkpoint_name_from_module_name(name) for name, _ in case.model.named_parameters()}
    assert sorted(names) == sorted(wanted)


def test_inputs_and_outputs_of_modern_pieces_are_those_of_the_contract(models: Models) -> None:
    case = models("grouped", "modern-cut")
    first, last, *heads = case.graphs.decoder
    caches = [f"past_{kind}_{layer}" for layer in (0, 1) for kind in ("key", "value")]
    assert [spec.name for spec in first.inputs] == ["inputs_embeds", "positions", "mask", "write", *caches]
    assert [spec.name for spec in last.outputs] == ["hidden", "present_key_2", "present_value_2"]
    shapes = {spec.name: spec.shape for spec in (*first.inputs, *first.outputs, *heads[0].inputs, *heads[0].outputs)}
    kv = ("B", case.shape.kv_heads, "C", case.shape.hidden_size // case.shape.heads)
    assert shapes["mask"] == ("B", 1, "S", "C") and shapes["write"] == ("B",)
    assert all(size == kv for name, size in shapes.items() if name.startswith(("past", "present")))
    assert shapes["hidden"] == shapes["inputs_embeds"] == ("B", "S", case.shape.hidden_size)
    assert shapes["rows"] == ("R",) and shapes["logits"] == ("B", "R", case.shape.vocab_size // 3)


@pytest.mark.parametrize("form", [GraphForm(layers_per_segment=-1), *(GraphForm(head_parts=n) for n in (0, 97))])
def test_a_form_that_does_not_fit_is_refused(form: GraphForm) -> None:
    with pytest.raises(ConfigError, match=r"layers_per_segment|head_parts"):
        graphs_from_config(tiny_config(), 56, form)
