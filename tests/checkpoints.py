"""Complete tiny checkpoint folders: random weights with tokenizer, profile and preprocessing, ready for export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from judo_edge.protocol.profile import PromptProfile, save_profile
from judo_edge.vision.geometry import CLIP_MEAN, CLIP_STD
from tests.tiny import save_tiny_checkpoint

SPECIALS = ("<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
"""In the order of the ids that `TinyShape` gives them."""
VOCABULARY = 320


def complete_checkpoint(folder: Path, image_size: int = 224, **options: Any) -> Path:
    """Write a tiny checkpoint with everything that export reads; options go to `save_tiny_checkpoint`."""
    save_tiny_checkpoint(folder, **{"vocab_size": VOCABULARY, **options})
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    profile = PromptProfile(name="tiny", system="", resize=image_size, image_size=image_size)
    save_profile(profile, folder / "profile.toml", force=True)
    statistics = {"image_mean": list(CLIP_MEAN), "image_std": list(CLIP_STD)}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of single bytes behind the special tokens; `<|im_start|>` comes last."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *letters, "<|im_start|>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*SPECIALS, "<|im_start|>"])
    return tokenizer
