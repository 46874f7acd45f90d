"""A checkpoint in the clothes that rivals expect: Qwen2.5-VL's files as they lie on the hub.

Weights are linked, never copied or changed. Knows the hub's file names and keys; knows no rival.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from judo_edge.errors import CheckpointError
from judo_edge.export.checkpoint import Checkpoint, json_object, open_checkpoint
from judo_edge.files import output_errors, put_in_place, sha256_of_bytes, sha256_of_file
from judo_edge.protocol.profile import PromptProfile, load_profile

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Only there because the rivals' loaders ask for one: prompts are handed over as finished text."""
_DIGITS = 12
_LAYOUT = 1
"""Raised when the files of the folder change, so that an older one is not taken for it."""


def hub_folder_from_checkpoint(checkpoint: Path, work: Path) -> Path:
    """Return a folder in `work` that holds the checkpoint as the hub would, made once per content of the checkpoint.

    It is named by the SHA-256 of weights, tokenizer and photo size; conversions lie beside it. Raises CheckpointError
    when a file is missing or unreadable, OutputError when `work` cannot be written.
    """
    opened = open_checkpoint(checkpoint)
    profile = load_profile(checkpoint / "profile.toml")
    tokenizer = checkpoint / "tokenizer.json"
    if not tokenizer.is_file():
        raise CheckpointError(f"{tokenizer} is missing", "the tokenizer of the checkpoint", "copy the whole checkpoint")
    about = f"{_LAYOUT} {opened.digest()} {sha256_of_file(tokenizer)} {profile.image_size}"
    folder = work / sha256_of_bytes(about.encode())[:_DIGITS] / "hub"
    built_once(folder, lambda partial: _write_hub_files(opened, profile, partial))
    with output_errors(folder):
        _link_weights(opened, folder)
    return folder


def built_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return `folder`, built beside itself and renamed when it does not exist yet; OutputError when it cannot be."""
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        with output_errors(folder):
            partial.mkdir(parents=True)
            build(partial)
            put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write_hub_files(opened: Checkpoint, profile: PromptProfile, folder: Path) -> None:
    config = hub_config_from_config(opened.config)
    special = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None, "bos_token": None}
    tokenizer: dict[str, Any] = {"tokenizer_class": "Qwen2Tokenizer", "chat_template": CHAT_TEMPLATE, **special}
    generation: dict[str, Any] = {"do_sample": False}
    generation.update((key, config[key]) for key in ("eos_token_id", "pad_token_id") if key in config)
    preprocessor = _preprocessor(opened, profile)
    for name, content in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("preprocessor_config.json", preprocessor),
        ("tokenizer_config.json", tokenizer),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(opened.folder / "tokenizer.json", folder / "tokenizer.json")


def _link_weights(opened: Checkpoint, folder: Path) -> None:
    """Link the weight files; a link that leads nowhere is made anew, for the checkpoint may have been moved."""
    for path in (*opened.files, opened.folder / "model.safetensors.index.json"):
        link = folder / path.name
        if path.is_file() and not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())


def hub_config_from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.json as the hub's Qwen2.5-VL has it, from that form or from the nested one of transformers 5.

    Rivals read the decoder's numbers at the top and the rotary ones as `rope_theta` and `rope_scaling`.
    """
    text = dict(config.get("text_config") or {})
    flat = {**text, **{key: value for key, value in config.items() if key != "text_config"}}
    rope = flat.pop("rope_parameters", None)
    if rope is not None:
        flat["rope_theta"] = rope["rope_theta"]
        flat["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    flat["torch_dtype"] = flat.pop("dtype", None) or flat.get("torch_dtype") or "bfloat16"
    vision = {key: value for key, value in flat["vision_config"].items() if key not in ("rope_parameters", "dtype")}
    flat["vision_config"] = {**vision, "in_chans": vision.get("in_chans", vision.get("in_channels", 3))}
    flat.pop("layer_types", None)  # transformers 4 derives it
    return {**flat, "model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"]}


def _preprocessor(opened: Checkpoint, profile: PromptProfile) -> dict[str, Any]:
    """Return the image processor's settings under which a photo of the profile's size stays as it is."""
    given, vision = json_object(opened.folder / "preprocessor_config.json"), opened.config["vision_config"]
    pixels = profile.image_size**2
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "rescale_factor": 1 / 255,
        "image_mean": given["image_mean"],
        "image_std": given["image_std"],
        "min_pixels": pixels,
        "max_pixels": pixels,
        "size": {"shortest_edge": pixels, "longest_edge": pixels},
        "patch_size": vision.get("patch_size", 14),
        "temporal_patch_size": vision.get("temporal_patch_size", 2),
        "merge_size": vision.get("spatial_merge_size", 2),
        "resample": 3,
    }
