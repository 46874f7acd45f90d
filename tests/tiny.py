"""Tiny random Qwen2.5-VL models made by code, for every test that needs a checkpoint.

Knows transformers and the shape of a checkpoint folder. Knows nothing of tokenizers, profiles or bundles.
All parameters are random, also biases and norms, so that a swapped or forgotten tensor shows in the output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration


@dataclass(frozen=True)
class TinyShape:
    """The numbers of a tiny model; the defaults give about 100,000 parameters."""

    vocab_size: int = 96
    hidden_size: int = 32
    intermediate_size: int = 48
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    rope_theta: float = 10.0
    mrope_section: tuple[int, int, int] = (1, 1, 2)
    """Split of half the head dimension over time, height and width; its sum is hidden_size / heads / 2."""
    tied: bool = False
    vision_hidden: int = 32
    vision_mlp: int = 44
    vision_depth: int = 3
    vision_heads: int = 2
    window_size: int = 112
    """Window side in pixels."""
    full_attention_blocks: tuple[int, ...] = (1,)
    eos_token_id: int = 1
    pad_token_id: int = 0
    vision_start_token_id: int = 2
    vision_end_token_id: int = 3
    image_token_id: int = 4
    video_token_id: int = 5


def tiny_config(shape: TinyShape | None = None, **changes: Any) -> Qwen2_5_VLConfig:
    """Return the transformers config of a tiny model; keyword arguments replace fields of `TinyShape`."""
    from transformers import Qwen2_5_VLConfig

    s = replace(shape or TinyShape(), **changes)
    return Qwen2_5_VLConfig(
        text_config=_text_config(s),
        vision_config=_vision_config(s),
        tie_word_embeddings=s.tied,
        image_token_id=s.image_token_id,
        video_token_id=s.video_token_id,
        vision_start_token_id=s.vision_start_token_id,
        vision_end_token_id=s.vision_end_token_id,
    )


def tiny_model(seed: int = 0, shape: TinyShape | None = None, **changes: Any) -> Qwen2_5_VLForConditionalGeneration:
    """Return a random float32 model in eval mode; the same seed and shape give the same weights."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration(tiny_config(shape, **changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(_scaled(name, values))
    return model.eval()


def save_tiny_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    shards: int = 1,
    dtype: str = "float32",
    native_names: bool = False,
    shape: TinyShape | None = None,
    **changes: Any,
) -> Path:
    """Write config.json and safetensors of a tiny model into `folder` and return it.

    `shards` above one gives that many files or a few more, with `model.safetensors.index.json`. `dtype` is float32,
    bfloat16 or float16. `native_names` writes `model.language_model.*` and `model.visual.*` instead of the hub's
    `model.*` and `visual.*`.
    """
    import torch

    model = tiny_model(seed, shape, **changes).to(getattr(torch, dtype))
    num_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    limit = num_bytes if shards == 1 else max(1, num_bytes // shards)
    model.save_pretrained(str(folder), max_shard_size=limit, save_original_format=not native_names)
    return folder


def _text_config(s: TinyShape) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": s.rope_theta, "mrope_section": list(s.mrope_section)}
    return {
        "vocab_size": s.vocab_size,
        "hidden_size": s.hidden_size,
        "intermediate_size": s.intermediate_size,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "rope_parameters": rope,
        "tie_word_embeddings": s.tied,
        "bos_token_id": None,
        "eos_token_id": s.eos_token_id,
        "pad_token_id": s.pad_token_id,
        "max_position_embeddings": 4096,
    }


def _vision_config(s: TinyShape) -> dict[str, Any]:
    return {
        "depth": s.vision_depth,
        "hidden_size": s.vision_hidden,
        "intermediate_size": s.vision_mlp,
        "num_heads": s.vision_heads,
        "out_hidden_size": s.hidden_size,
        "window_size": s.window_size,
        "fullatt_block_indexes": list(s.full_attention_blocks),
    }


def _scaled(name: str, values: Any) -> Any:
    if values.ndim > 1:
        fan_in = values[0].numel()
        return values if "embed_tokens" in name else values * fan_in**-0.5
    return values * 0.1 if name.endswith("bias") else 1.0 + values * 0.1
