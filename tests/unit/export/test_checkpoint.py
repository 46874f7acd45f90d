"""The lazy checkpoint: same values as transformers reads, and every defect of a folder is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from judo_edge.errors import CheckpointError
from judo_edge.export.checkpoint import Checkpoint, open_checkpoint
from judo_edge.export.graphs.names import checkpoint_name_from_module_name
from tests.tiny import save_tiny_checkpoint, tiny_model


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of one file."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("single"), seed=3)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same checkpoint in several files."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("sharded"), seed=3, shards=4)


@pytest.fixture
def copy(sharded: Path, tmp_path: Path) -> Path:
    """Return a copy of the sharded checkpoint that a test may break."""
    return Path(shutil.copytree(sharded, tmp_path / "copy"))


def refusal(folder: Path) -> str:
    """Return the one-line error of opening the folder."""
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_same_values(checkpoint: Checkpoint, state: dict[str, torch.Tensor]) -> None:
    """Compare every tensor, read in two pieces, with a state dict."""
    wanted_names = {checkpoint_name_from_module_name(name): tensor for name, tensor in state.items()}
    assert set(checkpoint.tensors) == set(wanted_names)
    for name, wanted in wanted_names.items():
        half = wanted.shape[0] // 2
        pieces = [checkpoint.rows(name, 0, half), checkpoint.rows(name, half, wanted.shape[0])]
        np.testing.assert_array_equal(np.concatenate(pieces), wanted.float().numpy(), err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("native_names", [False, True])
@pytest.mark.parametrize("shards", [1, 4])
def test_values_and_names_equal_transformers(tmp_path: Path, dtype: str, native_names: bool, shards: int) -> None:
    folder = save_tiny_checkpoint(tmp_path, seed=5, shards=shards, dtype=dtype, native_names=native_names)
    assert len(list(folder.glob("*.safetensors"))) == 1 if shards == 1 else len(list(folder.glob("*.safetensors"))) > 1
    assert_same_values(open_checkpoint(folder), tiny_model(5).to(getattr(torch, dtype)).state_dict())


def test_sharded_equals_single(single: Path, sharded: Path) -> None:
    one, many = open_checkpoint(single), open_checkpoint(sharded)
    assert list(one.tensors) == list(many.tensors)
    assert_same_values(many, {name: torch.from_numpy(one.rows(name, 0, t.num_rows)) for name, t in one.tensors.items()})


def test_tied_head_is_the_embedding(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(save_tiny_checkpoint(tmp_path, tied=True))
    assert checkpoint.is_tied and "lm_head.weight" not in checkpoint.tensors
    assert checkpoint.tensor("lm_head.weight") == checkpoint.tensor("model.embed_tokens.weight")


def test_layers_are_in_natural_order(tmp_path: Path) -> None:
    names = list(open_checkpoint(save_tiny_checkpoint(tmp_path, layers=11)).tensors)
    layers = [int(name.split(".")[2]) for name in names if name.startswith("model.layers.")]
    assert layers == sorted(layers) and max(layers) == 10


def test_digest_follows_config_and_weights(copy: Path) -> None:
    before = open_checkpoint(copy).digest()
    assert open_checkpoint(copy).digest() == before
    shard = sorted(copy.glob("*.safetensors"))[1]
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(raw)
    changed = open_checkpoint(copy).digest()
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert len({before, changed, open_checkpoint(copy).digest()}) == 3


def test_missing_shard_is_named(copy: Path) -> None:
    shard = sorted(copy.glob("*.safetensors"))[1]
    shard.unlink()
    assert f"the shard {shard} is missing" in refusal(copy)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_cut_off_shard_is_named(copy: Path, keep: int) -> None:
    shard = sorted(copy.glob("*.safetensors"))[1]
    raw = shard.read_bytes()
    shard.write_bytes(raw[:keep])
    text = refusal(copy)
    assert str(shard) in text and "cut off" in text


def test_shard_that_shrinks_while_it_is_read_is_named(copy: Path) -> None:
    checkpoint = open_checkpoint(copy)
    for shard in copy.glob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="ends inside"):
        for name, tensor in checkpoint.tensors.items():
            checkpoint.rows(name, 0, tensor.num_rows)


def corrupt_json(raw: bytes) -> bytes:
    return raw[:8] + b"!" + raw[9:]


def corrupt_length(raw: bytes) -> bytes:
    return (1 << 62).to_bytes(8, "little") + raw[8:]


def longer(raw: bytes) -> bytes:
    return raw + b"\0"


def with_entry(entry: object) -> Callable[[bytes], bytes]:
    """Return a change that replaces the header by one entry and drops the values."""

    def change(raw: bytes) -> bytes:
        header = json.dumps({"x": entry}).encode()
        return len(header).to_bytes(8, "little") + header + b"\0" * 8

    return change


@pytest.mark.parametrize(
    "change",
    [
        corrupt_json,
        corrupt_length,
        longer,
        with_entry(None),
        with_entry({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}),
        with_entry({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}),
        with_entry({"dtype": "F32", "shape": [2], "data_offsets": [0]}),
        with_entry({"dtype": "Q4", "shape": [2], "data_offsets": [0, 8]}),
        with_entry({"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}),
    ],
)
def test_corrupt_shard_is_named(copy: Path, change: Callable[[bytes], bytes]) -> None:
    shard = min(copy.glob("*.safetensors"))
    shard.write_bytes(change(shard.read_bytes()))
    assert str(shard) in refusal(copy)


def edit_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the index of a sharded checkpoint in place."""
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_index_that_lies_is_refused(copy: Path) -> None:
    shards = sorted(path.name for path in copy.glob("*.safetensors"))
    edit_index(copy, lambda content: content["weight_map"].update({"model.ghost.weight": shards[0]}))
    assert f"{shards[0]} lacks the tensor model.ghost.weight" in refusal(copy)
    edit_index(copy, lambda content: content["weight_map"].update({"model.ghost.weight": "../x.safetensors"}))
    assert "points outside its folder: ../x.safetensors" in refusal(copy)
    edit_index(copy, lambda content: content.pop("weight_map"))
    assert "no weight_map" in refusal(copy)


def test_pickle_is_refused_with_a_way_out(copy: Path) -> None:
    for path in copy.glob("model*"):
        path.unlink()
    assert "has no weights" in refusal(copy)
    (copy / "pytorch_model.bin").write_bytes(b"x")
    text = refusal(copy)
    assert "pytorch_model.bin" in text and "safe_serialization=True" in text


def test_folder_and_config_errors(tmp_path: Path) -> None:
    assert "is not a folder" in refusal(tmp_path / "absent")
    assert "config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    assert "holds no JSON object" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json is not JSON" in refusal(tmp_path)


def test_tensor_errors_name_tensor_and_shapes(single: Path) -> None:
    checkpoint = open_checkpoint(single)
    with pytest.raises(CheckpointError, match=r"lacks the tensor model.layers.9"):
        checkpoint.tensor("model.layers.9.mlp.up_proj.weight")
    with pytest.raises(CheckpointError, match=r"norm.weight has shape \[32\]; wanted: shape \[64\] by config.json"):
        checkpoint.checked("model.norm.weight", (64,))


def test_same_tensor_under_two_names_is_refused(single: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(single, tmp_path / "copy"))
    state = load_file(folder / "model.safetensors")
    state["model.language_model.norm.weight"] = state["model.norm.weight"].clone()
    save_file(state, folder / "model.safetensors")
    assert "twice: as" in refusal(folder)


def test_quantized_checkpoint_is_refused_when_used(single: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(single, tmp_path / "copy"))
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = state["lm_head.weight"].to(torch.int8)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head.weight is stored as I8; wanted: F32, F16 or BF16"):
        open_checkpoint(folder).checked("lm_head.weight", (96, 32))
