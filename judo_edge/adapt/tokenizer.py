"""The small byte-level BPE of JUDO-nano: Qwen's special tokens, numbers of two digits whole.

Whole numbers are the one difference from Qwen's splitting (it splits every digit): "turning a place into digits" is
the slow part of training, and with 16 as one token a cell needs two decisions, not three.
"""

from __future__ import annotations

import itertools

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_from_texts(texts: list[str], vocab_size: int) -> Tokenizer:
    """Train the BPE on sample prompts and replies; special tokens get the ids after the merges, as Qwen's have."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


def number_texts() -> list[str]:
    """Return mask-like text in which every number up to 16 is frequent enough to become one token."""
    numbers = range(1, 17)
    return [f" ({r},{c})-({r},{d})" for r, c, d in itertools.product(numbers, numbers, numbers) if c < d] * 2


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Map each special token to its id; ValueError when one is missing."""
    ids = {token: tokenizer.token_to_id(token) for token in SPECIALS}
    missing = [token for token, number in ids.items() if number is None]
    if missing:
        raise ValueError(f"the tokenizer has no {missing[0]}")
    return {token: int(number) for token, number in ids.items() if number is not None}
