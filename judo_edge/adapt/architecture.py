"""The shape of JUDO-nano, and its starting weights.

A Qwen2.5-VL small enough for two CPU cores. Two choices differ from the 7B, both in the config: rope_theta is 10,
since on a grid of 8x8 tokens the usual million leaves height and width almost unrotated; heads are few and narrow.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

IMAGE_SIZE = 224
GRID = 16
HIDDEN_SIZE = 256
MERGED = 8
"""Visual tokens along one side of an image."""


def nano_config(vocab_size: int, special: dict[str, int], layers: int = 6) -> Qwen2_5_VLConfig:
    """Return the configuration of JUDO-nano for a tokenizer with the given special token ids."""
    text = {
        "model_type": "qwen2_5_vl_text",
        "vocab_size": vocab_size,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 704,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [8, 12, 12]},
        "bos_token_id": special["<|im_start|>"],
        "eos_token_id": special["<|im_end|>"],
        "pad_token_id": special["<|endoftext|>"],
    }
    vision = {
        "depth": 4,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_heads": 4,
        "out_hidden_size": HIDDEN_SIZE,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [1, 3],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=special["<|image_pad|>"],
        video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"],
        vision_end_token_id=special["<|vision_end|>"],
        tie_word_embeddings=False,
    )


def nano_from_config(config: Qwen2_5_VLConfig, seed: int) -> Any:
    """Build JUDO-nano with random weights and the comparing heads pointed at the same place of the other image."""
    torch.manual_seed(seed)
    config._attn_implementation = "sdpa"
    model = Qwen2_5_VLForConditionalGeneration(config).float()
    point_heads_at_same_place(model, layers=(0, 1, 2))
    return model


@torch.no_grad()
def point_heads_at_same_place(model: Any, layers: tuple[int, ...]) -> None:
    """Set q and k biases of the first KV group so that a token of image 2 looks at the same place in image 1.

    The key bias is a constant vector; the query bias is the same vector turned by the fixed offset of the two images
    (MERGED + 2 positions: the image's extent, its end marker and the next start marker). The score then peaks where
    all three rotary offsets vanish. Width turns slower than height in M-RoPE and gets a larger amplitude.
    """
    text = model.config.text_config
    head_dim = text.hidden_size // text.num_attention_heads
    half, group = head_dim // 2, text.num_attention_heads // text.num_key_value_heads
    theta, sections = text.rope_parameters["rope_theta"], text.rope_parameters["mrope_section"]
    frequency = theta ** (-torch.arange(half, dtype=torch.float32) / half)
    amplitude = torch.cat([torch.full((n,), a) for n, a in zip(sections, (1.5, 5.0, 10.0), strict=True)])
    angle = -frequency * (MERGED + 2)
    for layer in layers:
        attention = model.model.language_model.layers[layer].self_attn
        attention.k_proj.bias[:head_dim] = torch.cat([amplitude, torch.zeros(half)])
        for head, sharpness in zip(range(group), (1.0, 0.45), strict=False):
            turned = torch.cat([amplitude * torch.cos(angle), amplitude * torch.sin(angle)]) * sharpness
            attention.q_proj.bias[head * head_dim : (head + 1) * head_dim] = turned
