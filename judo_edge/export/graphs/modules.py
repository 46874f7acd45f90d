"""The pieces that take the place of a module's own forward while a graph is traced.

Each computes what the original computes, in a form that leaves nothing to do at run time: matrices lie as (in, out),
attention folds the query heads of a group into rows, windows of one size are attended together. Needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

FOLDED_ATTENTION = "judo_edge_folded"
"""Name under which `folded_attention` is registered with transformers while the decoder is traced."""


class MatrixLinear(nn.Module):
    """A linear layer whose weight is stored as (in_features, out_features), so that the graph has one plain MatMul."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take the weight (in, out) and the bias (out,) or None."""
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight + bias over the last axis."""
        product = torch.matmul(x, self.weight)
        return product if self.bias is None else product + self.bias


class MatrixPatchEmbed(nn.Module):
    """The patch embedding as a matrix product: kernel size equals stride, so each patch row is one dot product."""

    def __init__(self, conv: nn.Conv3d) -> None:
        """Take the convolution whose kernel (out, 3, time, y, x) becomes a (3 * time * y * x, out) matrix."""
        super().__init__()
        matrix = conv.weight.new_empty((conv.weight[0].numel(), conv.weight.shape[0]))
        self.proj = MatrixLinear(matrix, None)

    def forward(self, patches: Tensor) -> Tensor:
        """Return (N, patches, hidden) from patch rows (N, patches, 3 * time * y * x)."""
        embedded: Tensor = self.proj(patches)
        return embedded


class GroupedWindowAttention(nn.Module):
    """Vision attention within runs of equal length, one batched product for each length.

    `groups` lists (windows, patches per window) in the order in which the patches lie; full attention is the one group
    (1, patches).
    """

    def __init__(self, attention: Any, groups: Sequence[tuple[int, int]]) -> None:
        """Take over qkv, proj and scaling of the original attention module."""
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.num_heads, self.scaling = attention.num_heads, attention.scaling
        self.groups = tuple(groups)

    def forward(self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: Any) -> Tensor:
        """Return (N, patches, hidden) from (N, patches, hidden) and the rotary tables (patches, head_dim)."""
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

        parts = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = parts.unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        sizes = [windows * length for windows, length in self.groups]
        split = [x.split(sizes, dim=1) for x in (query * self.scaling, key, value)]
        mixed = [_attended(group, *(x[i] for x in split)) for i, group in enumerate(self.groups)]
        output: Tensor = self.proj(torch.cat(mixed, dim=1) if len(mixed) > 1 else mixed[0])
        return output


def _attended(group: tuple[int, int], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend inside each window; inputs (N, windows * length, heads, head_dim), query already scaled."""
    q, k, v = (torch.unflatten(x, 1, group).transpose(2, 3) for x in (query, key, value))
    scores = torch.matmul(q, k.transpose(-1, -2))
    weights = torch.softmax(scores.float(), dim=-1).to(v.dtype)
    return torch.matmul(weights, v).transpose(2, 3).flatten(3, 4).flatten(1, 2)


class PastCache:
    """Stands in for transformers' cache: joins the given past with each layer's new keys and values.

    `past` is (P, layers, 2, B, kv_heads, head_dim); P may be 0.
    """

    def __init__(self, past: Tensor) -> None:
        """Split the past into one (P, B, kv_heads, head_dim) tensor for each layer's keys and values."""
        self.past = past.flatten(1, 2).unbind(1)
        self.new: list[Tensor] = []

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, kv_heads, P + S, head_dim) and keep the new S of them for `present`."""
        self.new += [key, value]
        old_key, old_value = (past.permute(1, 2, 0, 3) for past in self.past[2 * layer : 2 * layer + 2])
        return torch.cat([old_key, key], dim=2), torch.cat([old_value, value], dim=2)

    def present(self) -> Tensor:
        """Return the new keys and values of all layers, (S, layers, 2, B, kv_heads, head_dim)."""
        rows = torch.stack([new.permute(2, 0, 1, 3) for new in self.new], dim=1)
        return torch.unflatten(rows, 1, (-1, 2))


def folded_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attend with grouped queries without copying keys and values for each query head.

    The query heads of a group become rows of one product: query (B, heads, S, d) is read as (B, kv_heads, group * S,
    d). `attention_mask` is additive, (B, 1, S, P + S). Returns (B, S, heads, d) and None, as transformers expects.
    """
    batch, heads, rows, width = query.shape
    kv_heads, columns = key.shape[1], key.shape[2]
    group = heads // kv_heads
    folded = (query * scaling).reshape(batch, kv_heads, group * rows, width)
    scores = torch.matmul(folded, key.transpose(2, 3)).reshape(batch, kv_heads, group, rows, columns)
    masked = (scores + attention_mask.unsqueeze(2)).float()
    weights = torch.softmax(masked, dim=-1).to(value.dtype)
    mixed = torch.matmul(weights.reshape(batch, kv_heads, group * rows, columns), value)
    return mixed.reshape(batch, heads, rows, width).transpose(1, 2), None
