"""The exact token sequence of a pair: prompt as the runtime sends it, then the reply, and what each position holds.

Knows ids, kinds and positions. The head of the prompt up to the first photo is the prefix: the same for every pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from judo_edge.calibration.file import TOKEN_KINDS, TokenKind
from judo_edge.calibration.samples import Pair
from judo_edge.core import Ints
from judo_edge.errors import InputError
from judo_edge.protocol.profile import PromptProfile, prompt_text
from judo_edge.protocol.questions import Question
from judo_edge.vision.geometry import Preprocessing
from judo_edge.vision.mrope import positions_from_ids

Kinds = npt.NDArray[np.int8]
KIND: dict[TokenKind, int] = {kind: code for code, kind in enumerate(TOKEN_KINDS)}
"""Code of each kind in arrays."""
_SEG_END = "</seg>"


@dataclass(frozen=True)
class Tokens:
    """One pair as the decoder reads it: S positions, of which the first `prefix` are the same for all pairs."""

    ids: Ints
    """(S,)"""
    kinds: Kinds
    """(S,) codes of `TOKEN_KINDS`."""
    positions: Ints
    """(3, S)"""
    prefix: int
    prompt: int
    """Tokens of the prompt; the reply follows without its end token, which no model ever reads."""

    def __len__(self) -> int:
        """Count the tokens."""
        return int(self.ids.size)


class TokenReader:
    """Writes pairs as tokens by one tokenizer, one profile and one photo size."""

    def __init__(self, tokenizer: Path, profile: PromptProfile, preprocessing: Preprocessing, image_pad: int) -> None:
        """Open the tokenizer; InputError when it cannot be read."""
        self._raw = _tokenizer(tokenizer)
        self._profile, self._preprocessing, self._image_pad = profile, preprocessing, image_pad

    def tokens(self, pair: Pair) -> Tokens:
        """Return the tokens of a pair; InputError when the prompt does not hold two photos."""
        prompt, slots = self._prompt(pair.question)
        reply, starts = self._ids_and_starts(pair.reply)
        ids = np.concatenate([prompt, reply])
        in_mask = starts < pair.reply.index(_SEG_END) + len(_SEG_END)
        kinds = np.concatenate([self._prompt_kinds(prompt.size, slots), _reply_kinds(in_mask)])
        return Tokens(ids, kinds, self._positions(ids), int(slots[0]), int(prompt.size))

    def photo_tokens(self, question: Question) -> Tokens:
        """Return the prompt up to the last row of the second photo, which does not depend on what follows."""
        prompt, slots = self._prompt(question)
        end = int(slots[-1]) + 1
        kinds = self._prompt_kinds(prompt.size, slots)[:end]
        return Tokens(prompt[:end], kinds, self._positions(prompt[:end]), int(slots[0]), end)

    def _prompt(self, question: Question) -> tuple[Ints, Ints]:
        """Return the ids of a prompt and where its photos' rows are."""
        prompt = self._ids(prompt_text(self._profile, question, self._preprocessing.num_tokens))
        slots = np.flatnonzero(prompt == self._image_pad)
        if slots.size != 2 * self._preprocessing.num_tokens:
            found = f"a prompt with {slots.size} image tokens"
            raise InputError(found, f"2 photos of {self._preprocessing.num_tokens}", "use the tokenizer of the model")
        return prompt, slots

    def _positions(self, ids: Ints) -> Ints:
        side = self._preprocessing.merged_side
        return positions_from_ids(ids, self._image_pad, side, side)[0]

    def _prompt_kinds(self, length: int, slots: Ints) -> Kinds:
        kinds = np.full(length, KIND["question"], np.int8)
        kinds[: slots[0]] = KIND["system"]
        first, second = self._profile.in_image_order(KIND["query"], KIND["reference"])
        kinds[slots[: slots.size // 2]], kinds[slots[slots.size // 2 :]] = first, second
        return kinds

    def _ids(self, text: str) -> Ints:
        return np.array(self._raw.encode(text, add_special_tokens=False).ids, np.int64)

    def _ids_and_starts(self, text: str) -> tuple[Ints, Ints]:
        encoding = self._raw.encode(text, add_special_tokens=False)
        return np.array(encoding.ids, np.int64), np.array([start for start, _ in encoding.offsets], np.int64)


def common_prefix(sequences: Sequence[Tokens]) -> Ints:
    """Return the ids of the prompt's head, (P,); InputError when it differs, for its keys would not be everyone's."""
    first = sequences[0]
    head = first.ids[: first.prefix]
    if any(not np.array_equal(other.ids[: other.prefix], head) for other in sequences):
        raise InputError("prompts with different heads", "the same text before the first photo", "use one profile")
    return head


def counts_by_kind(sequences: Sequence[Tokens]) -> dict[TokenKind, int]:
    """Count the tokens of each kind; the prefix counts once."""
    counts = np.zeros(len(TOKEN_KINDS), np.int64)
    for tokens in sequences:
        counts += np.bincount(tokens.kinds, minlength=len(TOKEN_KINDS))
    counts[KIND["system"]] = sequences[0].prefix
    return {kind: int(counts[code]) for kind, code in KIND.items()}


def _reply_kinds(in_mask: npt.NDArray[np.bool_]) -> Kinds:
    return np.where(in_mask, KIND["mask"], KIND["prose"]).astype(np.int8)


def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        raw = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{path}: {error}", "a tokenizer.json", "copy the tokenizer of the checkpoint") from error
    raw.no_padding()
    raw.no_truncation()
    return raw
