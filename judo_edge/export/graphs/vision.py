"""The vision graph: one fixed photo size, any number of photos, everything that depends on the size is a constant.

Knows the real vision tower of transformers. Patches are reordered so that windows of one size lie together (attention
does not care about the order of windows); the inverse order restores the rows that transformers gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from judo_edge.export.graphs.modules import GroupedWindowAttention


@dataclass(frozen=True)
class WindowPlan:
    """Order and grouping of one photo's visual tokens."""

    order: Tensor
    """(tokens,) int64: token at each place, windows of one size together."""
    groups: tuple[tuple[int, int], ...]
    """(windows, patches per window) in that order, longest windows first."""


def window_plan(config: Any, grid_side: int) -> WindowPlan:
    """Return the plan for a square patch grid of `grid_side`, made from transformers' own window index."""
    from transformers.vision_utils import get_vision_window_index

    merge = int(config.spatial_merge_size)
    grid = torch.tensor([[1, grid_side, grid_side]])
    index, bounds = get_vision_window_index(grid, merge, config.window_size, config.patch_size)
    unit = merge * merge
    lengths = (bounds[1:] - bounds[:-1]).tolist()
    windows = list(torch.split(index, [length // unit for length in lengths]))
    windows.sort(key=len, reverse=True)
    sizes = [len(window) * unit for window in windows]
    groups = tuple((sizes.count(size), size) for size in sorted(set(sizes), reverse=True))
    return WindowPlan(torch.cat(windows), groups)


class VisionGraph(nn.Module):
    """The real vision tower over a batch of photos of one size."""

    order: Tensor
    inverse: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, visual: Any, rotary: Any, grid_side: int) -> None:
        """Take the tower (its attention modules are replaced) and a rotary module with real frequencies."""
        super().__init__()
        from transformers.vision_utils import get_vision_position_ids

        config = visual.config
        plan = window_plan(config, grid_side)
        self.visual, self.unit = visual, int(config.spatial_merge_size) ** 2
        positions = get_vision_position_ids(torch.tensor([[1, grid_side, grid_side]]), int(config.spatial_merge_size))
        cos, sin = rotary(torch.zeros(1), positions)
        rows = (plan.order[:, None] * self.unit + torch.arange(self.unit)).flatten()
        self.register_buffer("cos", cos[rows].contiguous())
        self.register_buffer("sin", sin[rows].contiguous())
        self.register_buffer("order", plan.order)
        self.register_buffer("inverse", torch.argsort(plan.order))
        self._replace_attention(plan, grid_side * grid_side)

    def _replace_attention(self, plan: WindowPlan, num_patches: int) -> None:
        full = set(self.visual.config.fullatt_block_indexes)
        for number, block in enumerate(self.visual.blocks):
            groups = ((1, num_patches),) if number in full else plan.groups
            block.attn = GroupedWindowAttention(block.attn, groups)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return visual tokens (N, tokens, D) from patches (N, patches, 3 * time * y * x), both in photo order."""
        hidden = self.visual.patch_embed(pixel_values)
        hidden = hidden.unflatten(1, (-1, self.unit)).index_select(1, self.order).flatten(1, 2)
        for block in self.visual.blocks:
            hidden = block(hidden, cu_seqlens=None, position_embeddings=(self.cos, self.sin))
        merged = self._merged(hidden)
        return merged.index_select(1, self.inverse)

    def _merged(self, hidden: Tensor) -> Tensor:
        """Apply the real merger's parts; its own forward would flatten the batch."""
        merger = self.visual.merger
        tokens: Tensor = merger.mlp(merger.ln_q(hidden).unflatten(1, (-1, self.unit)).flatten(2, 3))
        return tokens
