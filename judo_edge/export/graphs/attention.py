"""How a decoder layer meets its cache: joined with the past outside (legacy) or updated in place (modern).

Query heads of a group become rows of one product in both dialects, so that keys and values are never copied for each
query head. Needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from judo_edge.export.graphs import operators

FOLDED_ATTENTION = "judo_edge_folded"
"""Name under which `folded_attention` is registered with transformers while the decoder is traced."""


class PastCache:
    """Stands in for transformers' cache in one layer: joins the given past with the new keys and values."""

    def __init__(self, *past: Tensor) -> None:
        """Take the past keys and values, each (P, 1, 1, B, kv_heads, head_dim); P may be 0."""
        self.past = past
        self.new: tuple[Tensor, ...] = ()

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, kv_heads, P + S, head_dim) and keep the new S of them for `present`."""
        self.new = (key, value)
        old_key, old_value = (past.permute(1, 2, 3, 4, 0, 5).squeeze((0, 1)) for past in self.past)
        return torch.cat([old_key, key], dim=2), torch.cat([old_value, value], dim=2)

    def present(self) -> Tensor:
        """Return the new keys and values, (S, 1, 2, B, kv_heads, head_dim)."""
        return torch.stack([new.permute(2, 0, 1, 3) for new in self.new], dim=1).unsqueeze(1)


def folded_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attend with grouped queries without copying keys and values for each query head.

    query (B, heads, S, d) is read as (B, kv_heads, group * S, d). `attention_mask` is additive and `folded_mask`
    already, (B, 1, group * S, P + S): TensorRT fuses attention where nothing is reshaped between the products. Returns
    (B, S, heads, d) and None, as transformers expects.
    """
    batch, heads, rows, width = query.shape
    folded = (query * scaling).reshape(batch, key.shape[1], -1, width)
    scores = torch.matmul(folded, key.transpose(2, 3)) + attention_mask
    weights = torch.softmax(scores.float(), dim=-1).to(value.dtype)
    return torch.matmul(weights, value).reshape(batch, heads, rows, width).transpose(1, 2), None


def folded_mask(mask: Tensor, config: Any) -> Tensor:
    """Return (B, 1, group * S, columns) from (B, 1, S, columns): its rows once for each query head of a group."""
    return torch.cat([mask] * (config.num_attention_heads // config.num_key_value_heads), dim=2)


class AskedAttention(nn.Module):
    """The decoder's attention in the legacy dialect for asked rows alone; every row gives its keys and values."""

    def __init__(self, attention: Any) -> None:
        """Take over the four projections of the original attention module."""
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
        self.o_proj, self.width, self.scaling = attention.o_proj, attention.head_dim, float(attention.scaling)

    def forward(
        self, hidden: Tensor, asked: Tensor, rotary: Sequence[Tensor], mask: Tensor, cache: PastCache
    ) -> Tensor:
        """Return (B, R, hidden) for the asked rows (B, R, hidden) of the normed stream (B, S, hidden).

        `rotary` is cosine and sine (B, S, head_dim), then those of the asked rows; `mask` is folded for these rows.
        """
        query = _in_heads(self.q_proj(asked), self.width)
        key, value = (_in_heads(part(hidden), self.width) for part in (self.k_proj, self.v_proj))
        keys, values = cache.update(_rotated(key, *rotary[:2]), value, 0)
        mixed, _ = folded_attention(self, _rotated(query, *rotary[2:]), keys, values, mask, self.scaling)
        merged: Tensor = self.o_proj(mixed.flatten(2, 3))
        return merged


def _in_heads(projected: Tensor, width: int) -> Tensor:
    """Return (B, heads, rows, width) from (B, rows, heads * width)."""
    return torch.unflatten(projected, -1, (-1, width)).transpose(1, 2)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (B, heads, rows, head_dim) by tables (B, rows, head_dim); pairs lie half a head apart."""
    first, second = x.chunk(2, dim=-1)
    return x * cos.unsqueeze(1) + torch.cat([-second, first], dim=-1) * sin.unsqueeze(1)


@dataclass(frozen=True)
class Tables:
    """What every modern layer reads; made once for all layers."""

    query_cos: Tensor
    """(B, S, head_dim / 2) as all four tables; those of the query carry the attention scale."""
    query_sin: Tensor
    key_cos: Tensor
    key_sin: Tensor
    mask: Tensor
    """`folded_mask`, (B, 1, group * S, C)."""


@dataclass
class CapacityCache:
    """One layer's cache over the whole capacity; `update` leaves the written cache here."""

    key: Tensor
    """(B, kv_heads, C, head_dim) as `value`; what lies in rows that the mask drops must be finite."""
    value: Tensor
    write: Tensor
    """(B,) int64, first row to write."""

    def update(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new S rows and return keys and values over the whole capacity."""
        self.key = operators.tensor_scatter(self.key, key, self.write)
        self.value = operators.tensor_scatter(self.value, value, self.write)
        return self.key, self.value


class CachedAttention(nn.Module):
    """The decoder's attention by RotaryEmbedding, TensorScatter and Attention."""

    def __init__(self, attention: Any) -> None:
        """Take over the four projections of the original attention module."""
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
        self.o_proj, self.width, self.kv_heads = attention.o_proj, attention.head_dim, attention.num_key_value_heads

    def forward(
        self, hidden_states: Tensor, position_embeddings: Tables, past_key_values: CapacityCache, **_: Any
    ) -> tuple[Tensor, None]:
        """Return (B, S, hidden) and None, as the original does."""
        tables, (batch, rows, _hidden) = position_embeddings, hidden_states.shape
        query, key, value = (
            _in_heads(part(hidden_states), self.width) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        query = operators.rotary_embedding(query, tables.query_cos, tables.query_sin)
        key = operators.rotary_embedding(key, tables.key_cos, tables.key_sin)
        keys, values = past_key_values.update(key, value)
        folded = query.reshape(batch, self.kv_heads, -1, self.width)
        mixed = operators.attention(folded, keys, values, tables.mask)
        merged = mixed.reshape(batch, -1, rows, self.width).transpose(1, 2).reshape(batch, rows, -1)
        return self.o_proj(merged), None
