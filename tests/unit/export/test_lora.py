"""Merging adapters row by row equals PEFT's merge_and_unload; whatever does not fit is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from judo_edge.errors import AdapterError, CheckpointError
from judo_edge.export.adapter import open_adapter
from judo_edge.export.checkpoint import open_checkpoint
from judo_edge.export.graphs.names import checkpoint_name_from_module_name
from judo_edge.export.lora import MergedWeights
from tests.tiny import save_tiny_checkpoint, tiny_model

SEED = 7
QKV = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
VISION = ["qkv", "attn.proj", "mlp.0", "mlp.2", "patch_embed.proj"]

CONFIGS: dict[str, dict[str, Any]] = {
    "decoder": {"r": 4, "lora_alpha": 8, "target_modules": QKV},
    "every linear": {"r": 2, "lora_alpha": 7, "target_modules": [*QKV, *MLP, *VISION, "lm_head"]},
    "rslora": {"r": 8, "lora_alpha": 8, "use_rslora": True, "target_modules": MLP},
    "fan_in_fan_out": {"r": 4, "lora_alpha": 4, "fan_in_fan_out": True, "target_modules": QKV},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": QKV + VISION,
        "rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 6, "qkv": 3},
        "alpha_pattern": {"q_proj": 16, "k_proj": 1, "^model.visual.blocks.0.attn.qkv": 5},
    },
    "whole modules": {"r": 4, "lora_alpha": 8, "target_modules": QKV, "modules_to_save": ["lm_head", "ln_q"]},
    "embedding": {"r": 4, "lora_alpha": 8, "target_modules": ["embed_tokens", "q_proj"]},
    "biases": {"r": 4, "lora_alpha": 8, "target_modules": QKV, "bias": "all"},
    "gaussian": {"r": 4, "lora_alpha": 8, "target_modules": QKV, "init_lora_weights": "gaussian"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny float32 checkpoint."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("base"), seed=SEED)


def save_adapter(folder: Path, seed: int, config: dict[str, Any], **shape: Any) -> Path:
    """Train nothing: save an adapter whose every trained tensor is random."""
    model = get_peft_model(tiny_model(SEED, **shape), LoraConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.save_pretrained(str(folder))
    return folder


def merged_by_peft(*folders: Path, into: Any = None) -> dict[str, torch.Tensor]:
    """Load and merge one adapter after the other; return the weights by hub name."""
    model = into or tiny_model(SEED)
    for folder in folders:
        model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    return {checkpoint_name_from_module_name(name): tensor.detach() for name, tensor in model.state_dict().items()}


def merged_by_us(base: Path, *folders: Path) -> MergedWeights:
    """Open base and adapters."""
    return MergedWeights(open_checkpoint(base), [open_adapter(folder) for folder in folders])


def refusal(base: Path, *folders: Path) -> str:
    """Return the one-line error of merging."""
    with pytest.raises(AdapterError) as caught:
        merged_by_us(base, *folders)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_config(folder: Path, **changes: Any) -> None:
    """Change adapter_config.json in place."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    """Add or remove tensors of an adapter."""
    state = load_file(folder / "adapter_model.safetensors")
    state = {name: tensor for name, tensor in {**state, **changes}.items() if tensor is not None}
    save_file(state, folder / "adapter_model.safetensors")


@pytest.mark.parametrize("kind", CONFIGS)
def test_one_adapter_equals_peft(base: Path, tmp_path: Path, kind: str) -> None:
    folder = save_adapter(tmp_path / "a", 1, CONFIGS[kind])
    weights, plain = merged_by_us(base, folder), open_checkpoint(base)
    changed = set()
    for name, wanted in merged_by_peft(folder).items():
        np.testing.assert_array_equal(weights.whole(name), wanted.numpy(), err_msg=name)
        if not np.array_equal(wanted.numpy(), plain.rows(name, 0, len(wanted))):
            changed.add(name)
            assert weights.adapters_of(name) == ("a",)
    assert changed and changed <= set(weights.adapters[0].changed)


def test_rows_in_pieces_equal_the_whole(base: Path, tmp_path: Path) -> None:
    weights = merged_by_us(base, save_adapter(tmp_path / "a", 1, CONFIGS["every linear"]))
    weights_embedding = merged_by_us(base, save_adapter(tmp_path / "b", 1, CONFIGS["embedding"]))
    for each in (weights, weights_embedding):
        for name in each.adapters[0].changed:
            whole = each.whole(name)
            pieces = [each.rows(name, i, min(i + 5, len(whole))) for i in range(0, len(whole), 5)]
            np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=0, atol=1e-6, err_msg=name)


def test_several_adapters_are_summed_in_any_order(base: Path, tmp_path: Path) -> None:
    kinds = ["decoder", "every linear", "rslora"]
    folders = [save_adapter(tmp_path / str(i), i, CONFIGS[kind]) for i, kind in enumerate(kinds)]
    one, other = merged_by_us(base, *folders), merged_by_us(base, *reversed(folders))
    for name, wanted in merged_by_peft(*folders).items():
        np.testing.assert_allclose(one.whole(name), wanted.numpy(), rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(one.whole(name), other.whole(name), err_msg=name)
    assert set(one.adapters_of("model.layers.0.self_attn.q_proj.weight")) == {"0", "1"}


def test_bfloat16_base_is_merged_in_float32(tmp_path: Path) -> None:
    base = save_tiny_checkpoint(tmp_path / "base", seed=SEED, dtype="bfloat16")
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["decoder"])
    model = tiny_model(SEED).to(torch.bfloat16).float()
    weights = merged_by_us(base, folder)
    for name, wanted in merged_by_peft(folder, into=model).items():
        np.testing.assert_array_equal(weights.whole(name), wanted.numpy(), err_msg=name)


def test_adapter_saved_under_older_names_fits(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["every linear"])
    weights = merged_by_us(base, folder)
    wanted = {name: weights.whole(name) for name in weights.adapters[0].changed}
    state = load_file(folder / "adapter_model.safetensors")
    older = {
        name.replace("model.language_model.", "model.").replace("model.model.visual.", "model.visual."): tensor
        for name, tensor in state.items()
    }
    assert len(set(older) - set(state)) > len(state) // 2
    save_file(older, folder / "adapter_model.safetensors")
    weights = merged_by_us(base, folder)
    assert set(weights.adapters[0].changed) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(weights.whole(name), values)


def test_adapter_of_another_base_names_the_first_tensor_and_both_shapes(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["decoder"], hidden_size=64, mrope_section=(2, 3, 3))
    text = refusal(base, folder)
    assert "adapter a: model.layers.0.self_attn.k_proj.weight: lora_A has shape [4, 64]" in text
    assert "wanted: [4, 32] to fit the base weight [16, 32]" in text


def test_adapter_of_a_deeper_base_names_the_unknown_module(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["decoder"], layers=12)
    assert "adapter a: model.layers.2.self_attn.k_proj.weight is not a tensor of" in refusal(base, folder)


def test_whole_module_of_another_shape_is_named(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["whole modules"], vocab_size=100)
    assert "lm_head.weight (stored whole) has shape [100, 32]; wanted: [96, 32]" in refusal(base, folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"lora_bias": True}, "lora_bias = True is not supported"),
        ({"use_qalora": True}, "use_qalora"),
        ({"target_parameters": ["x"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"a_setting_of_tomorrow": 3}, "a_setting_of_tomorrow = 3 is not supported"),
        ({"init_lora_weights": "pissa"}, "'pissa' changed the base weights"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; wanted: LORA"),
        ({"r": 5}, "wanted: rank 5"),
        ({"rank_pattern": {"q_proj": 9}}, "wanted: rank 9"),
        ({"r": 0}, "r = 0"),
        ({"lora_alpha": "x"}, "lora_alpha = 'x'"),
    ],
)
def test_settings_that_are_not_a_plain_lora_are_refused(
    base: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["decoder"])
    edit_config(folder, **changes)
    assert named in refusal(base, folder)


def test_dora_is_refused_by_its_tensors_too(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", 1, {**CONFIGS["decoder"], "use_dora": True})
    edit_config(folder, use_dora=False)
    assert "DoRA is not supported" in refusal(base, folder)


FIRST = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({f"{FIRST}B.weight": None}, "q_proj has lora_A; wanted: also lora_B"),
        ({"other.weight": torch.zeros(1)}, "unknown tensor other.weight"),
        ({"base_model.model.ghost.lora_A.weight": torch.zeros(4, 1)}, "ghost has lora_A; wanted: also lora_B"),
        ({"base_model.model.ghost.weight": torch.zeros(1)}, "ghost.weight is not a tensor of"),
        ({f"{FIRST}C.weight": torch.zeros(1)}, "lora_C.weight: this kind of adapter is not supported"),
        ({f"{FIRST}B.weight": torch.zeros(31, 4)}, "lora_B has shape [31, 4]; wanted: [32, 4]"),
        ({f"{FIRST}B.weight": torch.zeros(32, 4, dtype=torch.int8)}, "is stored as I8"),
    ],
)
def test_tensors_left_over_or_missing_are_named(
    base: Path, tmp_path: Path, changes: dict[str, torch.Tensor | None], named: str
) -> None:
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["decoder"])
    edit_tensors(folder, **changes)
    with pytest.raises(CheckpointError) as caught:
        merged_by_us(base, folder)
    assert named in str(caught.value)


def test_folder_errors(base: Path, tmp_path: Path) -> None:
    assert "is not a folder" in refusal(base, tmp_path / "absent")
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["decoder"])
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "adapter_model.safetensors is cut off" in refusal(base, folder)
    weights.rename(folder / "adapter_model.bin")
    assert "only a pickle (adapter_model.bin)" in refusal(base, folder)
    (folder / "adapter_config.json").unlink()
    assert "adapter_config.json" in refusal(base, folder)


def test_same_adapter_twice_is_refused(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["decoder"])
    assert "given twice" in refusal(base, folder, Path(shutil.copytree(folder, tmp_path / "b")))


def test_replacing_what_another_adapter_changes_is_refused(base: Path, tmp_path: Path) -> None:
    whole = save_adapter(tmp_path / "whole", 1, CONFIGS["whole modules"])
    other = save_adapter(tmp_path / "other", 2, CONFIGS["every linear"])
    assert "both change lm_head.weight" in refusal(base, whole, other)


@pytest.mark.parametrize(("kind", "shared"), [("every linear", "lm_head"), ("embedding", "model.embed_tokens")])
def test_shared_head_and_embedding_are_left_alone(tmp_path: Path, kind: str, shared: str) -> None:
    base = save_tiny_checkpoint(tmp_path / "base", seed=SEED, tied=True)
    folder = save_adapter(tmp_path / "a", 1, CONFIGS[kind])
    assert f"{shared}.weight is shared by embedding and head" in refusal(base, folder)


def test_value_that_is_not_finite_is_refused(base: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", 1, CONFIGS["decoder"])
    edit_tensors(folder, **{f"{FIRST}B.weight": torch.full((32, 4), float("nan"))})
    with pytest.raises(CheckpointError, match=r"q_proj.weight holds values that are not finite"):
        merged_by_us(base, folder).whole("model.layers.0.self_attn.q_proj.weight")
