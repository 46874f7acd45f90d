"""The model as a chain of parts that fit into memory one at a time: transformers' own modules, one sample per pass.

Knows how each part is called and which of its linear layers share an input. A test holds the chain equal to
transformers' forward of the whole model. Needs torch and transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from judo_edge.calibration.tokens import Tokens
from judo_edge.calibration.weights import Weights, filled

BLOCK_GROUPS = (("attn.qkv",), ("attn.proj",), ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))
MERGER_GROUPS = (("mlp.0",), ("mlp.2",))
LAYER_GROUPS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""Linear layers of a block that read the same input, by their names in the module."""


class Stage(Protocol):
    """One part of the model."""

    @property
    def name(self) -> str:
        """Return the hub name of its tensors without their last parts."""
        ...

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the linear layers that share an input."""
        ...

    def load(self, weights: Weights) -> nn.Module:
        """Return the module with its weights."""
        ...

    def forward(self, module: nn.Module, index: int, rows: Tensor) -> Tensor:
        """Pass the rows (n, width) of a record through and return its new rows."""
        ...


class VisionPlan:
    """Constants of one photo size: order of windows, their bounds, rotary tables in that order."""

    def __init__(self, config: Any, grid_side: int) -> None:
        """Take the vision config and the patches on a side."""
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionRotaryEmbedding
        from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

        self.config, self.unit = config, int(config.spatial_merge_size) ** 2
        grid = torch.tensor([[1, grid_side, grid_side]])
        self.order, self.windows = get_vision_window_index(
            grid, int(config.spatial_merge_size), config.window_size, config.patch_size
        )
        self.whole = torch.tensor([0, grid_side * grid_side], dtype=torch.int32)
        rotary = Qwen2_5_VLVisionRotaryEmbedding(config)
        tables = rotary(torch.zeros(1), get_vision_position_ids(grid, int(config.spatial_merge_size)))
        self.tables = tuple(self.ordered(table) for table in tables)

    def ordered(self, rows: Tensor) -> Tensor:
        """Bring rows (patches, width) into the order of windows."""
        ordered: Tensor = rows.unflatten(0, (-1, self.unit))[self.order].flatten(0, 1)
        return ordered

    def restored(self, tokens: Tensor) -> Tensor:
        """Bring rows (tokens, width) back into the order of the photo."""
        photo: Tensor = tokens[torch.argsort(self.order)]
        return photo


def patch_embedding(config: Any, weights: Weights) -> nn.Module:
    """Return the module that turns patches (patches, values) into hidden rows; no form ever rounds it."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionPatchEmbed

    def build() -> nn.Module:
        return Qwen2_5_VisionPatchEmbed(
            config.patch_size, config.temporal_patch_size, config.in_channels, config.hidden_size
        )

    return filled(build, "visual.patch_embed", weights)


class BlockStage:
    """One block of the vision tower."""

    groups = BLOCK_GROUPS

    def __init__(self, plan: VisionPlan, number: int) -> None:
        """Take the constants of the photo size and the block's number."""
        self.name = f"visual.blocks.{number}"
        self._plan = plan
        self._bounds = plan.whole if number in plan.config.fullatt_block_indexes else plan.windows

    def load(self, weights: Weights) -> nn.Module:
        """Return the block."""
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionBlock

        return filled(lambda: Qwen2_5_VLVisionBlock(self._plan.config), self.name, weights)

    def forward(self, module: nn.Module, index: int, rows: Tensor) -> Tensor:
        """Return (patches, width)."""
        output: Tensor = module(rows, cu_seqlens=self._bounds, position_embeddings=self._plan.tables)
        return output


class MergerStage:
    """The merger: patches in the order of windows become visual tokens in the order of the photo."""

    name, groups = "visual.merger", MERGER_GROUPS

    def __init__(self, plan: VisionPlan) -> None:
        """Take the constants of the photo size."""
        self._plan = plan

    def load(self, weights: Weights) -> nn.Module:
        """Return the merger."""
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger

        config = self._plan.config
        return filled(
            lambda: Qwen2_5_VLPatchMerger(config.out_hidden_size, config.hidden_size, config.spatial_merge_size),
            self.name,
            weights,
        )

    def forward(self, module: nn.Module, index: int, rows: Tensor) -> Tensor:
        """Return (tokens, hidden)."""
        return self._plan.restored(module(rows))


class LayerStage:
    """One decoder layer. Record 0 is the prefix; the others hold what follows it and attend to its exact keys."""

    groups = LAYER_GROUPS

    def __init__(self, config: Any, number: int, sequences: Sequence[Tokens]) -> None:
        """Take the text config, the layer's number and the tokens of all pairs."""
        self.name = f"model.layers.{number}"
        self._config, self._number, self._sequences = config, number, sequences
        self._prefix = _PrefixCache()
        self._rotary: Any = None

    def load(self, weights: Weights) -> nn.Module:
        """Return the layer."""
        from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as source

        self._rotary = source.Qwen2_5_VLRotaryEmbedding(self._config)
        return filled(lambda: source.Qwen2_5_VLDecoderLayer(self._config, self._number), self.name, weights)

    @property
    def prefix(self) -> Tensor:
        """Return keys and values of the prefix (P, 2, 1, Hkv, hd), once record 0 has passed."""
        return self._prefix.keys_values()

    def forward(self, module: nn.Module, index: int, rows: Tensor) -> Tensor:
        """Return (n, hidden)."""
        length = self._sequences[0].prefix
        positions = self._sequences[max(0, index - 1)].positions
        part = positions[:, :length] if index == 0 else positions[:, length:]
        self._prefix.is_recording = index == 0
        output: Tensor = module(
            rows[None],
            attention_mask=None if index == 0 else causal_mask(len(rows), length),
            past_key_values=self._prefix,
            position_embeddings=self._rotary(rows, torch.from_numpy(part)[:, None]),
        )
        return output[0]


class _PrefixCache:
    """What a layer takes for its cache: keeps the prefix's keys and values, and puts them before everyone else's."""

    def __init__(self) -> None:
        self.is_recording = False
        self._kept: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        if self.is_recording:
            self._kept = (keys, values)
            return self._kept
        kept_keys, kept_values = self._kept or (keys[:, :, :0], values[:, :, :0])
        return torch.cat([kept_keys, keys], dim=2), torch.cat([kept_values, values], dim=2)

    def keys_values(self) -> Tensor:
        if self._kept is None:
            raise ValueError("record 0 has not passed yet")
        return torch.stack(self._kept).permute(3, 0, 1, 2, 4).contiguous()


def causal_mask(rows: int, past: int) -> Tensor:
    """Return which columns (1, 1, rows, past + rows) each new row may see: the past, and the new ones up to itself."""
    return torch.ones(rows, past + rows, dtype=torch.bool).tril(diagonal=past)[None, None]


def final_norm(config: Any, weights: Weights) -> nn.Module:
    """Return the norm before the LM head."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLRMSNorm

    return filled(lambda: Qwen2_5_VLRMSNorm(config.hidden_size, eps=config.rms_norm_eps), "model.norm", weights)
