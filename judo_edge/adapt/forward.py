"""A batched forward pass of Qwen2.5-VL for training on a CPU: transformers' mathematics, laid out in batches.

Every prompt of a batch has the same layout (header, image, image, text), so images need no packing and windows are
one batched attention. It calls the model's own sub-modules, so that adapters put into them take part.
A test holds it equal to transformers' forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from judo_edge.vision.geometry import CLIP_MEAN, CLIP_STD


def patches_from_photos(photos: Tensor) -> Tensor:
    """Turn uint8 photos (N, side, side, 3) into patches (N, patches, 3 * 14 * 14) in merge-block order."""
    scaled = photos.float().div_(255).sub_(torch.tensor(CLIP_MEAN)).div_(torch.tensor(CLIP_STD))
    count, merged = photos.shape[0], photos.shape[1] // 28
    blocks = scaled.view(count, merged, 2, 14, merged, 2, 14, 3).permute(0, 1, 4, 2, 5, 7, 3, 6)
    return blocks.reshape(count, merged * merged * 4, 3 * 14 * 14)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply a rotary embedding given as half-width tables (..., dim / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


@dataclass(frozen=True)
class VisionPlan:
    """Constants of one image size: window order of the merged tokens and rotary tables in that order."""

    order: Tensor
    inverse: Tensor
    cos: Tensor
    sin: Tensor
    windows: int


def vision_plan(config: Any, image_size: int) -> VisionPlan:
    """Lay out the windows of one image; the merged grid must be a multiple of the window."""
    merged, window = image_size // 28, config.window_size // config.patch_size // config.spatial_merge_size
    if merged % window:
        raise ValueError(f"training needs whole windows: {merged} tokens a side are not a multiple of {window}")
    units = torch.arange(merged * merged).view(merged // window, window, merged // window, window)
    order = units.permute(0, 2, 1, 3).reshape(-1)
    rows, cols = (order // merged)[:, None] * 2, (order % merged)[:, None] * 2
    rows = (rows + torch.tensor([0, 0, 1, 1])).reshape(-1)
    cols = (cols + torch.tensor([0, 1, 0, 1])).reshape(-1)
    quarter = config.hidden_size // config.num_heads // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float32) / quarter)
    angles = torch.cat([rows[:, None] * frequency, cols[:, None] * frequency], dim=-1)
    return VisionPlan(order, torch.argsort(order), angles.cos(), angles.sin(), (merged // window) ** 2)


def embeddings_from_patches(visual: Any, plan: VisionPlan, patches: Tensor) -> Tensor:
    """Run the vision tower on (N, patches, 588): embeddings (N, tokens, out_hidden)."""
    weight = visual.patch_embed.proj.weight
    merged_weight = (weight[:, :, 0] + weight[:, :, 1]).flatten(1)
    count, total, _ = patches.shape
    ordered = patches.view(count, total // 4, 4, -1)[:, plan.order].reshape(count, total, -1)
    x = F.linear(ordered, merged_weight)
    for index, block in enumerate(visual.blocks):
        full = index in visual.fullatt_block_indexes
        x = x + _vision_attention(block.attn, block.norm1(x), plan, 1 if full else plan.windows)
        x = x + block.mlp(block.norm2(x))
    merger = visual.merger
    units = merger.ln_q(x).view(count, total // 4, -1)
    return torch.as_tensor(merger.mlp(units)[:, plan.inverse])


def _vision_attention(attention: Any, x: Tensor, plan: VisionPlan, windows: int) -> Tensor:
    count, total, width = x.shape
    heads = attention.num_heads
    qkv = attention.qkv(x).view(count, total, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    cos, sin = plan.cos.to(x.dtype), plan.sin.to(x.dtype)
    query, key, value = rotated(qkv[0], cos, sin), rotated(qkv[1], cos, sin), qkv[2]
    shape = (count, heads, windows, total // windows, width // heads)
    query, key, value = (t.reshape(shape).transpose(1, 2).flatten(0, 1) for t in (query, key, value))
    out = F.scaled_dot_product_attention(query, key, value)
    out = out.unflatten(0, (count, windows)).transpose(1, 2).reshape(count, heads, total, -1)
    return torch.as_tensor(attention.proj(out.transpose(1, 2).reshape(count, total, width)))


def rotary_tables(config: Any, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Build M-RoPE tables (S, head_dim / 2) from positions (3, S)."""
    half = config.hidden_size // config.num_attention_heads // 2
    rope = config.rope_parameters
    frequency = rope["rope_theta"] ** (-torch.arange(half, dtype=torch.float32) / half)
    axis = torch.repeat_interleave(torch.arange(3), torch.tensor(rope["mrope_section"]))
    angles = positions.float()[axis].T * frequency
    return angles.cos(), angles.sin()


def hidden_states(layers: Any, embeds: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Run some decoder layers causally on the residual stream (B, S, D)."""
    cos, sin = (table.to(embeds.dtype) for table in tables)
    x = embeds
    for layer in layers:
        x = x + _self_attention(layer.self_attn, layer.input_layernorm(x), cos, sin)
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return x


def _self_attention(attention: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    batch, length, _ = x.shape
    shape = (batch, length, -1, attention.head_dim)
    query = rotated(attention.q_proj(x).view(shape).transpose(1, 2), cos, sin)
    key = rotated(attention.k_proj(x).view(shape).transpose(1, 2), cos, sin)
    value = attention.v_proj(x).view(shape).transpose(1, 2)
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, dim=1) for t in (key, value))
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return torch.as_tensor(attention.o_proj(out.transpose(1, 2).reshape(batch, length, -1)))
