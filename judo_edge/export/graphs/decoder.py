"""The decoder in pieces that are traced once: tables, one layer, the head, the cell probe.

Knows the real text layers of transformers. `assemble` repeats the layer and joins the pieces to graphs. Needs torch.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from judo_edge.export.graphs import operators
from judo_edge.export.graphs.attention import (
    AskedAttention,
    CachedAttention,
    CapacityCache,
    PastCache,
    Tables,
    folded_mask,
)
from judo_edge.export.graphs.modules import MatrixLinear, RootNorm


class Angles(nn.Module):
    """Rotary angles of half a head, mixed once from the three position axes."""

    axes: Tensor
    frequencies: Tensor

    def __init__(self, rotary: Any) -> None:
        """Take frequencies and sections of the rotary module, whose numbers are real."""
        super().__init__()
        sections = torch.tensor(rotary.mrope_section)
        self.register_buffer("axes", torch.arange(len(sections)).remainder(3).repeat_interleave(sections))
        self.register_buffer("frequencies", rotary.inv_freq.float())
        self.gain = float(rotary.attention_scaling)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine float32 (B, S, head_dim / 2) from positions (3, B, S) int64."""
        angles = positions.float().index_select(0, self.axes).permute(1, 2, 0) * self.frequencies
        return angles.cos() * self.gain, angles.sin() * self.gain


class LegacyTables(nn.Module):
    """Rotary tables as transformers' layers read them, and the mask folded."""

    def __init__(self, rotary: Any, config: Any, dtype: torch.dtype) -> None:
        """Take the rotary module; `config` is the text config, `dtype` that of the tables."""
        super().__init__()
        self.angles, self.config, self.dtype = Angles(rotary), config, dtype

    def forward(self, positions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return cosine and sine (B, S, head_dim) from positions (3, B, S) int64, and the folded mask."""
        cos, sin = (torch.cat([half, half], dim=-1).to(self.dtype) for half in self.angles(positions))
        return cos, sin, folded_mask(mask, self.config)


class ModernTables(nn.Module):
    """Rotary tables of half a head, and the mask folded."""

    def __init__(self, rotary: Any, config: Any, dtype: torch.dtype) -> None:
        """Take the rotary module; `config` is the text config, `dtype` that of the tables."""
        super().__init__()
        self.angles, self.config, self.dtype = Angles(rotary), config, dtype
        self.scaling = (config.hidden_size // config.num_attention_heads) ** -0.5

    def forward(self, positions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the fields of `Tables` from positions (3, B, S) int64 and the additive mask (B, 1, S, C)."""
        cos, sin = self.angles(positions)
        tables = [table.to(self.dtype) for table in (cos * self.scaling, sin * self.scaling, cos, sin)]
        return tables[0], tables[1], tables[2], tables[3], folded_mask(mask, self.config)


class LegacyLayer(nn.Module):
    """One real decoder layer, its past as a plain tensor."""

    def __init__(self, layer: Any) -> None:
        """Take the layer; its norms are replaced already."""
        super().__init__()
        self.layer = layer

    def forward(
        self, hidden: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, past_key: Tensor, past_value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the new stream (B, S, D) and the new keys and values (S, 1, 2, B, kv_heads, head_dim).

        cos and sin (B, S, head_dim), mask (B, 1, group * S, P + S) folded, past (P, 1, 1, B, kv_heads, head_dim).
        """
        cache = PastCache(past_key, past_value)
        output = self.layer(hidden, attention_mask=mask, position_embeddings=(cos, sin), past_key_values=cache)
        return output, cache.present()


class LastLegacyLayer(nn.Module):
    """The last decoder layer: keys and values of every row, the stream of the asked rows alone."""

    def __init__(self, layer: Any, config: Any) -> None:
        """Take the layer, whose norms are replaced already, and the text config; the layer itself stays as it is."""
        super().__init__()
        self.layer, self.config = copy.copy(layer), config
        self.layer._modules = {**layer._modules, "self_attn": AskedAttention(layer.self_attn)}

    def forward(
        self,
        hidden: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor,
        rows: Tensor,
        past_key: Tensor,
        past_value: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the new stream (B, R, D) of the rows (R,) and the new keys and values of all S rows.

        As `LegacyLayer`, but the mask (B, 1, S, P + S) is not folded.
        """
        cache, layer = PastCache(past_key, past_value), self.layer
        normed = layer.input_layernorm(hidden)
        tables = (cos, sin, operators.gather(cos, rows), operators.gather(sin, rows))
        folded = folded_mask(mask.index_select(2, rows), self.config)
        mixed = layer.self_attn(normed, operators.gather(normed, rows), tables, folded, cache)
        stream = operators.gather(hidden, rows) + mixed
        return stream + layer.mlp(layer.post_attention_layernorm(stream)), cache.present()


class ModernLayer(nn.Module):
    """One real decoder layer whose attention updates a cache of fixed capacity."""

    def __init__(self, layer: Any) -> None:
        """Take the layer and replace its attention."""
        super().__init__()
        self.layer = layer
        layer.self_attn = CachedAttention(layer.self_attn)

    def forward(
        self,
        hidden: Tensor,
        past_key: Tensor,
        past_value: Tensor,
        write: Tensor,
        query_cos: Tensor,
        query_sin: Tensor,
        key_cos: Tensor,
        key_sin: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the new stream (B, S, D) and the written caches (B, kv_heads, C, head_dim).

        The tracer wants each tensor by itself; the last five are the fields of `Tables`.
        """
        cache = CapacityCache(past_key, past_value, write)
        tables = Tables(query_cos, query_sin, key_cos, key_sin, mask)
        output = self.layer(hidden, position_embeddings=tables, past_key_values=cache)
        return output, cache.key, cache.value


class Head(nn.Module):
    """The final norm and the head, on the asked rows alone or on a stream that has no others."""

    def __init__(self, norm: RootNorm, lm_head: nn.Module) -> None:
        """Take the norm and the head, or a part of it."""
        super().__init__()
        self.norm, self.lm_head = norm, lm_head

    def forward(self, hidden: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return logits (B, R, V) of the rows (R,) int64 of the stream (B, S, D), or of the whole stream."""
        logits: Tensor = self.lm_head(self.norm(hidden if rows is None else operators.gather(hidden, rows)))
        return logits


class CellProbe(nn.Module):
    """A linear head on the residual stream after a root mean square norm without a weight, all in float32."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Take the weight (hidden, values) and the bias (values,), float32."""
        super().__init__()
        self.linear = MatrixLinear(weight, bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return logits (B, S, values) of the stream (B, S, D), in its type.

        The norm is torch's `rms_norm` with its default epsilon, as the probe was trained. Its squares are a product and
        no power: ONNX Runtime would share the power with the layer's own norm, and then no longer fuse that one.
        """
        wide = hidden.float()
        normed = wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps)
        cells: Tensor = self.linear(normed).to(hidden.dtype)
        return cells
