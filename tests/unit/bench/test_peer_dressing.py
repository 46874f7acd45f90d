"""What rivals are handed: the hub's files, llama.cpp's names, and how agreement is counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judo_edge.bench.peers import registry
from judo_edge.bench.peers.dressing import hub_config_from_config, hub_folder_from_checkpoint
from judo_edge.bench.peers.frames import agreement, peer_frame
from judo_edge.bench.peers.scripts import gguf_from_hub
from judo_edge.errors import CheckpointError
from judo_edge.export.checkpoint import open_checkpoint
from judo_edge.protocol.profile import load_profile
from judo_edge.protocol.questions import detection_question
from judo_edge.runtime.tokenizer import Tokenizer
from judo_edge.vision.geometry import Preprocessing
from tests.scripted import photo

NANO = Path(registry.__file__).parents[2] / "assets" / "judo-nano"


def test_a_nested_config_becomes_the_hubs() -> None:
    config = hub_config_from_config(open_checkpoint(NANO).config)
    assert config["rope_theta"] == 10.0 and config["rope_scaling"] == {"type": "mrope", "mrope_section": [8, 12, 12]}
    assert config["hidden_size"] == 256 and config["vocab_size"] == 501 and config["torch_dtype"] == "bfloat16"
    assert config["vision_config"]["in_chans"] == 3 and config["vision_config"]["hidden_size"] == 128
    assert not {"text_config", "rope_parameters", "dtype", "layer_types"} & set(config)
    assert hub_config_from_config(config) == config, "the hub's own form stays"


def test_a_photo_of_the_profiles_size_is_not_resized_again(tmp_path: Path) -> None:
    hub = hub_folder_from_checkpoint(NANO, tmp_path)
    preprocessor = json.loads((hub / "preprocessor_config.json").read_text())
    assert preprocessor["min_pixels"] == preprocessor["max_pixels"] == 224 * 224
    assert (hub / "model.safetensors").resolve() == (NANO / "model.safetensors").resolve()


def test_the_folder_is_made_once(tmp_path: Path) -> None:
    hub = hub_folder_from_checkpoint(NANO, tmp_path)
    made = (hub / "config.json").stat().st_mtime_ns
    assert hub_folder_from_checkpoint(NANO, tmp_path) == hub
    assert (hub / "config.json").stat().st_mtime_ns == made


def test_a_checkpoint_that_was_moved_is_linked_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(NANO, first)
    hub = hub_folder_from_checkpoint(first, tmp_path)
    first.rename(second)
    assert not (hub / "model.safetensors").exists()
    assert hub_folder_from_checkpoint(second, tmp_path) == hub
    assert (hub / "model.safetensors").resolve() == second / "model.safetensors"


def test_a_checkpoint_without_tokenizer_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for path in NANO.iterdir():
        if path.is_file() and path.name != "tokenizer.json":
            (checkpoint / path.name).symlink_to(path)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        hub_folder_from_checkpoint(checkpoint, tmp_path)


@pytest.mark.parametrize("order", ["query-first", "normal-first"])
def test_a_frame_has_the_photos_in_the_order_of_the_prompt(order: Any) -> None:
    profile = load_profile(NANO / "profile.toml").model_copy(update={"image_order": order})
    preprocessing = Preprocessing(resize=224, image_size=224)
    tokenizer = Tokenizer.open(NANO / "tokenizer.json")
    query, normal = photo(200, size=(90, 70)), photo(20, size=(224, 224))
    frame = peer_frame(profile, preprocessing, tokenizer, detection_question(yes_first=True), (query, normal), [496])
    assert [pixels.shape for pixels in frame.photos] == [(224, 224, 3)] * 2
    brighter = int(np.argmax([pixels.mean() for pixels in frame.photos]))
    assert brighter == (0 if order == "query-first" else 1)
    assert frame.prompt_ids.count(499) == frame.prompt.count("<|image_pad|>") == 2 * 64


def test_agreement_counts_equal_replies_and_common_starts() -> None:
    found = agreement([(1, 2, 3), (1, 2), (5,)], [(1, 2, 3), (1, 2, 3), (6, 7)])
    assert (found.num_frames, found.num_equal, found.common) == (3, 1, (3, 2, 0))
    assert agreement([(1,)], [(1,), (2,)]).num_frames == 1, "only as far as a rival has come"


def test_every_tensor_has_a_name_in_llama_cpp(tmp_path: Path) -> None:
    hub = hub_folder_from_checkpoint(NANO, tmp_path)
    named = [
        (name, part.shape)
        for tensor, values in gguf_from_hub.tensors_from_folder(hub)
        for name, part in gguf_from_hub.gguf_tensors(tensor, values)
    ]
    names = dict(named)
    assert len(names) == len(named), "two tensors of one name"
    assert names["v.patch_embd.weight"] == names["v.patch_embd.weight.1"] == (128, 3, 14, 14)
    assert names["v.blk.3.attn_k.bias"] == (128,) and names["blk.5.attn_q.weight"] == (256, 256)
    assert names["token_embd.weight"] == names["output.weight"] == (501, 256)
    with pytest.raises(ValueError, match="no module of"):
        gguf_from_hub.gguf_module("model.layers.0.moe")


def test_values_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    hub = hub_folder_from_checkpoint(NANO, tmp_path)
    values = dict(gguf_from_hub.tensors_from_folder(hub))["model.layers.2.mlp.up_proj.weight"]
    expected = open_checkpoint(NANO).rows("model.layers.2.mlp.up_proj.weight", 0, values.shape[0])
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(("full", "depth", "period"), [([1, 3], 4, 2), ([7, 15, 23, 31], 32, 8)])
def test_even_windows_have_a_period(full: list[int], depth: int, period: int) -> None:
    assert gguf_from_hub.window_period(full, depth) == period


@pytest.mark.parametrize(("full", "depth"), [([1, 4], 5), ([1], 4)])
def test_uneven_windows_are_refused(full: list[int], depth: int) -> None:
    with pytest.raises(ValueError, match="every n-th"):
        gguf_from_hub.window_period(full, depth)
