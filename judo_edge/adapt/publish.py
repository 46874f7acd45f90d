"""Writes a trained JUDO-nano as a checkpoint folder that transformers, PEFT and `judo-edge export` can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn

from judo_edge.adapt.architecture import IMAGE_SIZE
from judo_edge.adapt.probe.file import write_probe
from judo_edge.adapt.samples import nano_profile
from judo_edge.adapt.train import TAP, Heads
from judo_edge.files import write_atomic
from judo_edge.protocol.profile import save_profile
from judo_edge.vision.geometry import CLIP_MEAN, CLIP_STD

WEIGHTS_DTYPE = torch.bfloat16
"""Stored form of the weights, as the real checkpoint's."""


def checkpoint_from_model(model: Any, heads: Heads, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (bf16 safetensors), configuration, tokenizer, profile and cell probe to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(WEIGHTS_DTYPE).save_pretrained(folder)
    model.float()
    save_tokenizer(tokenizer, folder)
    save_profile(nano_profile(), folder / "profile.toml", force=True)
    save_probe(heads.cells, folder / "cell_probe.safetensors")
    _write_json(folder / "preprocessor_config.json", _preprocessor())
    _write_json(folder / "generation_config.json", _generation(tokenizer))


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and the configuration by which transformers loads it."""
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    _write_json(folder / "tokenizer_config.json", {**names, "model_max_length": 2048})


def save_probe(probe: nn.Linear, path: Path) -> None:
    """Write the cell probe: weight (4, hidden), bias (4,); it reads the RMS-normed stream after `tap` layers.

    Each row is one of the 2x2 cells under a visual token, in reading order.
    """
    weight, bias = (tensor.detach().float().contiguous().numpy() for tensor in (probe.weight, probe.bias))
    write_probe(path, weight, bias, TAP, force=True)


def _preprocessor() -> dict[str, Any]:
    side = IMAGE_SIZE * IMAGE_SIZE
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "rescale_factor": 1 / 255,
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
        "min_pixels": side,
        "max_pixels": side,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "resample": 3,
    }


def _generation(tokenizer: Tokenizer) -> dict[str, Any]:
    end, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    return {"do_sample": False, "eos_token_id": end, "pad_token_id": pad}


def _write_json(path: Path, data: dict[str, Any]) -> None:
    write_atomic(path, (json.dumps(data, indent=2) + "\n").encode(), force=True)


def adapter_to_folder(adapted: Any, folder: Path) -> None:
    """Write a PEFT adapter in bf16; its README template is left out."""
    adapted.save_pretrained(folder)
    weights = folder / "adapter_model.safetensors"
    save_file({name: t.to(WEIGHTS_DTYPE) for name, t in load_file(weights).items()}, weights, metadata={"format": "pt"})
    (folder / "README.md").unlink(missing_ok=True)
