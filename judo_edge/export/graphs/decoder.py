"""The decoder graph: one graph for prefill, verification of drafts and single steps.

Knows the real text layers of transformers. Past keys and values come in, only the new ones go out; the head is applied
to the asked rows alone.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from judo_edge.export.graphs.modules import PastCache


class DecoderGraph(nn.Module):
    """The real decoder layers over embeddings, with the past as a plain tensor."""

    def __init__(self, text_model: Any, lm_head: nn.Module) -> None:
        """Take the text model (its embedding table is dropped) and the head."""
        super().__init__()
        self.model, self.lm_head = text_model, lm_head
        del self.model.embed_tokens

    def forward(
        self, inputs_embeds: Tensor, positions: Tensor, mask: Tensor, past: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, R, V) and the new keys and values (S, layers, 2, B, kv_heads, head_dim).

        inputs_embeds (B, S, D), positions (3, B, S) int64, mask (B, 1, S, P + S) additive, past (P, layers, 2, B,
        kv_heads, head_dim), rows (R,) int64 indices into S.
        """
        tables = self.model.rotary_emb(inputs_embeds, positions)
        cache = PastCache(past)
        hidden = inputs_embeds
        for layer in self.model.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=tables, past_key_values=cache)
        chosen = self.model.norm(hidden.index_select(1, rows))
        return self.lm_head(chosen), cache.present()
