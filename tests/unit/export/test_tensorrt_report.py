"""Reading a builder's listing, and the two questions asked of it. Lines as TensorRT for RTX 1.7.1 writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from judo_edge.export.tensorrt import (
    HeadFacts,
    Kernel,
    LayerReport,
    expanded_weights,
    is_weight_fused,
    kernels_from_inspector,
    kernels_from_log,
    replicates_kv,
)


@dataclass(frozen=True)
class Linear:
    node: str = "l0.up"
    in_features: int = 512
    out_features: int = 1024


def tensor(name: str, shape: str, dtype: str = "Half") -> str:
    return (
        f"{{ Name: {name}, Dimensions: [{shape}], Strides: [{shape}], StrideOrder: [2,1,0], Datatype: {dtype}, "
        "Format: (Linear) Row major linear format }"
    )


def line(constants: list[str], output: str, source: str = "l0.up") -> str:
    return (
        f"Name: __myl_CastMulCastFc_myl0_3, LayerType: runtime_fusion, Inputs: [ {tensor('x', '1,-1,512')}], "
        f"Constants: [ {', '.join(constants)}], Outputs: [ {output}], TacticName: __myl_Fc_0x1, StreamId: 0, "
        f"Metadata: [ONNX Layer: {source}.dequantize][ONNX Layer: {source}]"
    )


SCALE = tensor("scale", "1,1,1024")
WEIGHT = tensor("weight", "1,512,1024", "Int8")
FUSED = line([SCALE, WEIGHT], tensor("y", "1,-1,1024"))
EXPANDED = line([SCALE, WEIGHT], tensor("w16", "1,512,1024"))
NOISE = ["Layers:", "Name: s, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0"]


def report(*lines: str, facts: HeadFacts | None = None) -> LayerReport:
    kernels = tuple(kernels_from_log([*NOISE, *lines]))
    return LayerReport(graph="decoder", builder="b", kernels=kernels, facts=facts or HeadFacts())


def test_a_line_is_read_whole() -> None:
    signal, kernel = report(FUSED).kernels
    assert (signal.name, signal.kind, signal.outputs) == ("s", "signal", ())
    assert kernel.inputs[0].shape == (1, -1, 512) and kernel.outputs[0].shape == (1, -1, 1024)
    assert [(c.dtype, c.elements) for c in kernel.constants] == [("Half", 1024), ("Int8", 512 * 1024)]
    assert kernel.tactic == "__myl_Fc_0x1" and kernel.sources == ("l0.up.dequantize", "l0.up")
    assert report(FUSED).counts() == {"runtime_fusion": 1}


def test_reading_the_integers_is_fused_and_writing_them_out_is_not() -> None:
    assert is_weight_fused(report(FUSED), Linear()) and not expanded_weights(report(FUSED))
    assert not is_weight_fused(report(EXPANDED), Linear()) and expanded_weights(report(EXPANDED))
    assert not is_weight_fused(report(FUSED, EXPANDED), Linear()), "one profile is enough"


def test_an_odd_width_that_is_padded_while_written_out_is_found() -> None:
    odd = line([tensor("weight", "1,256,501", "Int8")], tensor("w16", "1,256,502"), "lm_head")
    alone = odd.replace(f"Inputs: [ {tensor('x', '1,-1,512')}]", "Inputs: []")
    product = line([], tensor("logits", "1,-1,502"), "lm_head").replace("[ONNX Layer: lm_head.dequantize]", "")
    made = report(alone, product)
    assert len(expanded_weights(made)) == 1 and not is_weight_fused(made, Linear("lm_head", 256, 501))


def test_a_layer_that_reads_no_integers_is_not_fused() -> None:
    plain = line([tensor("weight", "1,512,1024")], tensor("y", "1,-1,1024"))
    assert not is_weight_fused(report(plain), Linear()) and not is_weight_fused(report(), Linear())


def test_layers_without_names_are_found_by_size() -> None:
    assert is_weight_fused(report(FUSED), Linear("elsewhere"))
    assert not is_weight_fused(report(EXPANDED), Linear("elsewhere"))
    assert not is_weight_fused(report(FUSED), Linear("elsewhere", 512, 777))


FACTS = HeadFacts(heads=28, kv_heads=4, head_dim=128, capacity=1536)


@pytest.mark.parametrize(
    ("shape", "copied"),
    [
        ("1,28,1536,128", True),
        ("28,128,1536", True),
        ("1,4,7,1536,128", True),
        ("1,4,1536,128", False),
        ("28,-1,1536", False),
    ],
)
def test_a_copy_for_every_query_head_is_found(shape: str, copied: bool) -> None:
    assert replicates_kv(report(line([], tensor("k", shape)), facts=FACTS)) is copied


def test_a_graph_without_a_fixed_cache_has_no_answer() -> None:
    with pytest.raises(ValueError, match="no cache"):
        replicates_kv(report(FUSED))


def test_the_inspectors_json_is_read() -> None:
    """In the layout of TensorRT's documentation; an engine needs a GPU, so this text is made up."""
    side = {"Name": "w", "Dimensions": [512, 1024]}
    layer = {
        "Name": "gemm",
        "LayerType": "gemm",
        "Inputs": [{"Name": "x", "Dimensions": [1, -1, 512], "Format/Datatype": "Half"}],
        "Constants": [side | {"Format/Datatype": "Int8"}],
        "Outputs": [side | {"Format/Datatype": "Half"}],
        "Metadata": "[ONNX Layer: l0.up]",
    }
    named, plain = kernels_from_inspector(json.dumps({"Layers": [layer, "just a name"]}))
    assert named.expands_weight and named.sources == ("l0.up",) and plain == Kernel(name="just a name", kind="")
