"""Tokens of a pair: the runtime's prompt, the reply behind it, and what each position holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer

from judo_edge.calibration.file import TOKEN_KINDS
from judo_edge.calibration.job import Job
from judo_edge.calibration.samples import PairSet
from judo_edge.calibration.steps import Subject
from judo_edge.calibration.tokens import KIND, TokenReader, common_prefix, counts_by_kind
from judo_edge.errors import InputError
from judo_edge.protocol.profile import prompt_text


def text_of_kind(job: Job, number: int, kind: str) -> str:
    tokens = job.sequences[number]
    raw = Tokenizer.from_file(str(job.subject.tokenizer))
    chosen = tokens.ids[tokens.kinds == KIND[kind]]  # type: ignore[index]
    return str(raw.decode(chosen.tolist(), skip_special_tokens=False))


def test_prompt_is_the_profile_s_text_and_the_reply_follows(job: Job, chosen: PairSet, subject: Subject) -> None:
    raw = Tokenizer.from_file(str(subject.tokenizer))
    for tokens, pair in zip(job.sequences, chosen.pairs, strict=True):
        text = prompt_text(subject.profile, pair.question, subject.preprocessing.num_tokens)
        assert tokens.ids[: tokens.prompt].tolist() == raw.encode(text, add_special_tokens=False).ids
        assert raw.decode(tokens.ids[tokens.prompt :].tolist(), skip_special_tokens=False) == pair.reply


def test_kinds_split_the_text_where_they_should(job: Job, chosen: PairSet) -> None:
    number = next(i for i, pair in enumerate(chosen.pairs) if pair.item.is_defect)
    reply = chosen.pairs[number].reply
    end = reply.index("</seg>") + len("</seg>")
    assert text_of_kind(job, number, "mask") == reply[:end]
    assert text_of_kind(job, number, "prose") == reply[end:]
    assert text_of_kind(job, number, "system") == "<|im_start|>user\n<|vision_start|>"
    question = text_of_kind(job, number, "question")
    assert question.startswith("<|vision_end|><|vision_start|><|vision_end|>\nFirst image")
    assert question.endswith("<|im_start|>assistant\n")


def test_photos_stand_in_the_profile_s_order(job: Job, chosen: PairSet, subject: Subject) -> None:
    def first_photo(reader: TokenReader) -> int:
        kinds = reader.tokens(chosen.pairs[0]).kinds
        return int(kinds[np.isin(kinds, [KIND["query"], KIND["reference"]])][0])

    pad, pixels = subject.config.image_token_id, subject.preprocessing
    turned = subject.profile.model_copy(update={"image_order": "normal-first"})
    assert first_photo(TokenReader(subject.tokenizer, subject.profile, pixels, pad)) == KIND["query"]
    assert first_photo(TokenReader(subject.tokenizer, turned, pixels, pad)) == KIND["reference"]


def test_counts_add_up_and_the_prefix_counts_once(job: Job) -> None:
    counts = counts_by_kind(job.sequences)
    rest = sum(len(tokens) - tokens.prefix for tokens in job.sequences)
    assert set(counts) == set(TOKEN_KINDS)
    assert sum(counts.values()) == rest + counts["system"] and counts["system"] == job.prefix.size
    assert counts["query"] == counts["reference"] == 9 * len(job.sequences)


def test_prompts_with_different_heads_have_no_common_prefix(job: Job) -> None:
    first, second = job.sequences[:2]
    other = replace(second, ids=np.concatenate([[9], second.ids[1:]]))
    with pytest.raises(InputError, match="different heads"):
        common_prefix([first, other])


def test_a_tokenizer_of_another_model_is_refused(subject: Subject, chosen: PairSet) -> None:
    reader = TokenReader(subject.tokenizer, subject.profile, subject.preprocessing, image_pad=17)
    with pytest.raises(InputError, match="image tokens"):
        reader.tokens(chosen.pairs[0])
