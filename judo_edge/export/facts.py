"""What a checkpoint folder says besides weights: model sizes, token ids, pixel statistics, tokenizer, prompt profile.

Everything comes from its files; what they do not say, or say twice differently, is an error and never a default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from judo_edge.bundle import ModelFacts, Preprocessing
from judo_edge.errors import CheckpointError
from judo_edge.export.checkpoint import json_object
from judo_edge.export.graphs.fake import config_from

TOKENIZER = "tokenizer.json"
PROFILE = "profile.toml"
_SPECIAL = {
    "image_token_id": "<|image_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
_END_OF_TURN = "<|im_end|>"


def tokenizer_file(folder: Path) -> Path:
    """Return tokenizer.json of a checkpoint; CheckpointError says how to make one."""
    path = folder / TOKENIZER
    if not path.is_file():
        action = "make it with AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        raise CheckpointError(f"{path} is missing", action=action)
    return path


def profile_file(folder: Path, given: Path | None) -> Path:
    """Return the prompt profile: the one given, else the checkpoint's own; CheckpointError says how to make one."""
    path = given or folder / PROFILE
    if not path.is_file():
        action = "make one with judo-edge prompt import, then pass it with --profile"
        raise CheckpointError(f"{path} is missing: the checkpoint does not say how it was prompted", action=action)
    return path


def model_facts(folder: Path, config: dict[str, Any]) -> ModelFacts:
    """Return sizes and ids from the configs and the tokenizer; CheckpointError when they differ."""
    checked = config_from(config)
    text, vision = checked.text_config, checked.vision_config
    rope = text.rope_parameters
    tokenizer = _tokenizer(tokenizer_file(folder))
    _check_special_ids(folder, checked, tokenizer)
    return ModelFacts(
        architecture=(config.get("architectures") or ["Qwen2_5_VLForConditionalGeneration"])[0],
        hidden_size=text.hidden_size,
        num_layers=text.num_hidden_layers,
        num_heads=text.num_attention_heads,
        num_kv_heads=text.num_key_value_heads,
        head_dim=text.hidden_size // text.num_attention_heads,
        intermediate_size=text.intermediate_size,
        vocab_size=text.vocab_size,
        rope_theta=float(rope["rope_theta"]),
        mrope_section=tuple(rope["mrope_section"]),
        image_pad_id=checked.image_token_id,
        vision_start_id=checked.vision_start_token_id,
        vision_end_id=checked.vision_end_token_id,
        eos_ids=_eos_ids(folder, text, tokenizer),
        vision_depth=vision.depth,
        vision_hidden_size=vision.hidden_size,
        vision_window_size=vision.window_size,
        patch_size=vision.patch_size,
        temporal_patch_size=vision.temporal_patch_size,
        spatial_merge_size=vision.spatial_merge_size,
    )


def preprocessing(folder: Path, image_size: int) -> Preprocessing:
    """Return the pixel statistics of preprocessor_config.json, or of processor_config.json as newer writers name it."""
    content: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            content = json_object(folder / name)
            content = content.get("image_processor", content)
            break
    mean, std = _triple(content.get("image_mean")), _triple(content.get("image_std"))
    if mean is None or std is None:
        action = "copy preprocessor_config.json from the model that the checkpoint was tuned from"
        raise CheckpointError(f"{folder} has no image_mean and image_std", "preprocessor_config.json", action)
    return Preprocessing(image_size=image_size, mean=mean, std=std)


def _triple(value: Any) -> tuple[float, float, float] | None:
    if not isinstance(value, list) or [type(item) in (int, float) for item in value] != [True] * 3:
        return None
    return float(value[0]), float(value[1]), float(value[2])


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path}: {error}", "a tokenizer.json") from error


def _check_special_ids(folder: Path, config: Any, tokenizer: Tokenizer) -> None:
    """Refuse a tokenizer of another model: its special tokens would mean something else here."""
    for key, token in _SPECIAL.items():
        in_config, in_tokenizer = getattr(config, key), tokenizer.token_to_id(token)
        if in_config != in_tokenizer:
            found = f"{folder}: {token} is {in_tokenizer} in {TOKENIZER} and {in_config} in config.json ({key})"
            raise CheckpointError(found, "the same id", "use the tokenizer that belongs to this checkpoint")


def _eos_ids(folder: Path, text: Any, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return every id that ends a reply: the end of turn, and what the configs name."""
    path = folder / "generation_config.json"
    given = json_object(path).get("eos_token_id") if path.is_file() else None
    named = given if given is not None else text.eos_token_id
    named = named if isinstance(named, list) else [named]
    ids = {tokenizer.token_to_id(_END_OF_TURN), *named} - {None}
    inside = sorted(i for i in ids if 0 <= i < text.vocab_size)  # configs of small models carry Qwen's default id
    if not inside:
        raise CheckpointError(f"{folder} names no token that ends a reply", f"{_END_OF_TURN} in {TOKENIZER}")
    return tuple(inside)
