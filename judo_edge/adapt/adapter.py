"""LoRA adapters for JUDO-nano: a new kind of part, learnt beside frozen base weights."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, get_peft_model

TARGETS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "qkv",
    "attn.proj",
    "mlp.0",
    "mlp.2",
)
"""Linear layers of decoder, vision tower and merger; the patch embedding stays as it is."""


def with_adapter(model: Any, rank: int = 16, alpha: int = 32) -> Any:
    """Return the model with fresh LoRA layers; only they are trainable."""
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=list(TARGETS))
    return get_peft_model(model, config)
