"""Matrices of a bundle equal PEFT's merge of the whole model, quantized by a few lines of their own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from judo_edge.export.graphs.names import checkpoint_name_from_module_name
from judo_edge.export.pipeline import export_bundle
from tests.checkpoints import VOCABULARY, complete_checkpoint
from tests.tiny import TinyShape, tiny_model
from tests.tools.merged_tensors import checkpoint_tensor, compared, drawn_weights, main, merged, stored
from tests.tools.random_checkpoint import write_random_adapter
from tests.traced_once import graphs_traced_once

SEED = 5
SHAPE = TinyShape(vocab_size=VOCABULARY, hidden_size=128, intermediate_size=160, mrope_section=(4, 6, 6))


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    with graphs_traced_once():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ck") / "tiny"
    return complete_checkpoint(folder, seed=SEED, shards=3, dtype="bfloat16", shape=SHAPE)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_adapter(tmp_path_factory.mktemp("adapter") / "rank4", SHAPE, rank=4)


def test_one_layers_merge_is_that_of_the_whole_model(checkpoint: Path, adapter: Path) -> None:
    base = tiny_model(SEED, SHAPE).to(torch.bfloat16).float()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # PEFT's word for keys that are missing
        model: Any = PeftModel.from_pretrained(base, str(adapter))
    whole = {checkpoint_name_from_module_name(n): t for n, t in model.merge_and_unload().state_dict().items()}
    for kind in ("self_attn.v_proj", "mlp.gate_proj", "mlp.down_proj"):
        name = f"model.layers.1.{kind}.weight"
        assert torch.equal(merged(checkpoint, adapter, name), whole[name])
        assert not torch.equal(
            whole[name],
            tiny_model(SEED, SHAPE)
            .to(torch.bfloat16)
            .float()
            .state_dict()[name.replace("model.layers", "model.language_model.layers")],
        )


@pytest.mark.parametrize("recipe", ["jetson-agx-orin-int8", "cpu-int8", "jetson-agx-orin-fp16"])
def test_every_matrix_of_a_bundle_is_peft_merge_rounded(
    checkpoint: Path, adapter: Path, tmp_path: Path, recipe: str
) -> None:
    out = export_bundle(checkpoint, [adapter], recipe, tmp_path / "out")
    weights = drawn_weights(out, 14, seed=0)
    assert len(set(weights)) == 14
    for weight in weights:
        found = compared(out, checkpoint, adapter, weight)
        assert found.is_equal and found.values >= checkpoint_tensor(checkpoint, weight).numel(), found
    assert main_code(out, checkpoint, adapter) == 0


def test_half_an_adapter_and_one_wrong_scale_are_found(checkpoint: Path, adapter: Path, tmp_path: Path) -> None:
    plain = export_bundle(checkpoint, [], "jetson-agx-orin-int8", tmp_path / "plain")
    weight = "model.layers.0.self_attn.q_proj.weight"
    assert not compared(plain, checkpoint, adapter, weight).is_equal
    assert main_code(plain, checkpoint, adapter) == 1
    out = export_bundle(checkpoint, [adapter], "jetson-agx-orin-int8", tmp_path / "out")
    raw = (out / "decoder.onnx.data").read_bytes()
    column = stored(out, f"{weight}.int8")[:1].tobytes()
    (out / "decoder.onnx.data").write_bytes(raw.replace(column, bytes(len(column)), 1))
    assert not compared(out, checkpoint, adapter, weight).is_equal


def main_code(*folders: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["merged_tensors", *map(str, folders), "--count", "3"])
        return main()
