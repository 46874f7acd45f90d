"""The decoder's loop: greedy tokens over an engine that keeps the keys and values, guesses checked on the way.

A pass reads one token that is certain and a draft behind it. Row i of its logits is what greedy decoding would see
after the first i drafted tokens, so the longest right prefix is accepted and one more token comes for free. A draft
changes time only. Knows positions and stop conditions; knows nothing of tokens' meaning, photos or replies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError
from judo_edge.runtime.engines.base import Decoded, Engine

Choose = Callable[[Floats], int]
NextDraft = Callable[[int], Sequence[int]]
"""Returns guesses of the next tokens, at most as many as it is given."""


class PromptInputs(NamedTuple):
    """A whole prompt, ready for the decoder."""

    embeds: Floats
    """(1, S, D) float32: text rows and visual rows juxtaposed."""
    positions: Ints
    """(3, 1, S) int64 M-RoPE positions: time, height, width."""
    next_position: int
    """Position of the first generated token, the same on all three axes."""


class Step(NamedTuple):
    """One generated token."""

    number: int
    """0 for the first token after the prompt."""
    token: int
    """The chosen id."""
    logits: Floats
    """(V,) float32 that it was chosen from; may be overwritten after the next step."""


class Pass(NamedTuple):
    """One run of the decoder."""

    kind: Literal["prefill", "verify", "decode"]
    """The prompt, a token with a draft behind it, a token alone."""
    num_new: int
    """Positions that it appended."""
    num_drafted: int
    num_accepted: int
    """Drafted tokens that greedy decoding writes too; counted when the next pass begins or the reply ends."""
    seconds: float
    """Of several prompts read together this one's share."""
    num_prompts: int = 1
    """Prompts that it read together."""


class FirstPass(NamedTuple):
    """What a pass over a prompt and a draft behind it has left."""

    rows: Floats
    """(1 + drafted, V) float32 logits from the prompt's last row on; may be overwritten by the next pass."""
    draft: tuple[int, ...]
    prompt_length: int
    next_position: int
    run: Pass
    cells: Floats | None
    """(S, K) float32 of the positions read, the draft's included; None without a cell probe."""
    keep: Callable[[int], None]
    """Leaves so many of this prompt's positions in the engine, and no others; see `Engine.rewind`."""

    def holds_reply(self, end_tokens: frozenset[int]) -> bool:
        """Tell whether greedy decoding writes the draft and ends with it, so that no other pass is needed."""
        written = tuple(self.rows[:-1].argmax(axis=-1).tolist())
        return bool(self.draft) and self.draft[-1] in end_tokens and written == self.draft


def greedy_token(logits: Floats) -> int:
    """Return the id of the largest of (V,) logits, the lowest id on a tie; EngineError when one is not a number."""
    token = int(np.argmax(logits))
    # argmax returns the first NaN when there is one, so looking at the winner finds every NaN.
    if not np.isfinite(logits[token]):
        raise EngineError("a logit that is not finite", "finite logits", "check the bundle with its parity report")
    return token


def text_positions(begin: int, count: int) -> Ints:
    """Return the (3, 1, count) positions of text from `begin` on: the same on all three axes."""
    return np.tile(np.arange(begin, begin + count, dtype=np.int64), (3, 1, 1))


def no_draft(_: int) -> Sequence[int]:
    """Guess nothing: plain greedy decoding, one token a pass."""
    return ()


class Decoder:
    """Greedy generation over one engine; one prompt at a time.

    `embed` turns token ids (S,) into rows (S, D) float32.
    """

    def __init__(self, engine: Engine, embed: Callable[[Ints], Floats]) -> None:
        """Keep the engine; the cache is made at the first prompt."""
        self._engine = engine
        self._embed = embed
        self._first_position = self._prompt_length = self._room = 0
        self._rows: Floats | None = None
        self._draft: tuple[int, ...] = ()
        self._keep: Callable[[int], None] = engine.rewind
        self.passes: list[Pass] = []
        """What the present prompt has taken so far."""

    def prefill(
        self, prompt: PromptInputs, max_new_tokens: int, draft: Sequence[int] = (), prefix: Floats | None = None
    ) -> Decoded:
        """Read the prompt and a draft behind it in one pass; logits are asked for from the prompt's last row on.

        `prefix` (P, L, 2, 1, Hkv, hd) are the keys and values of the prompt's first P positions, which are then not
        read again. `cells` are those of the positions read, the drafted ones included.
        """
        room = max(self._room, prompt.embeds.shape[1] + max_new_tokens)
        self._engine.start(room, prefix)
        self._room = room  # as much as the longest question so far: others about the same photos fit then
        self.passes = []
        return self._read_prompt(prompt, self._engine.length, draft)

    def has_room(self, prompt: PromptInputs, max_new_tokens: int) -> bool:
        """Tell whether another prompt and its reply fit where `prefill` has made room."""
        return int(prompt.embeds.shape[1]) + max_new_tokens <= self._room

    def reread(self, prompt: PromptInputs, kept: int, draft: Sequence[int] = ()) -> Decoded:
        """Read another prompt that shares its first `kept` positions with the present one; see `has_room`."""
        self._engine.rewind(kept)
        self.passes = []
        return self._read_prompt(prompt, kept, draft)

    def take_up(self, first: FirstPass) -> None:
        """Go on with a prompt that was read elsewhere, as if it had been read by `prefill`; see `together`."""
        self._first_position, self._prompt_length = first.next_position, first.prompt_length
        self._rows, self._draft, self._keep = first.rows, first.draft, first.keep
        self.passes = [first.run]

    def steps(
        self,
        end_tokens: frozenset[int],
        max_new_tokens: int,
        choose: Choose = greedy_token,
        next_draft: NextDraft = no_draft,
    ) -> Iterator[Step]:
        """Yield the tokens after the prompt, the end token included, at most `max_new_tokens`.

        `choose` picks a token from (V,) logits; plain greedy unless told otherwise. It is called once for each token,
        in order. `next_draft` is asked when a pass is needed, after the last token was yielded and looked at.

        The caller stops earlier by no longer asking. A pass of the decoder runs only when one more token is wanted.
        """
        number = 0
        while True:
            token = -1
            for row, expected in enumerate((*self._draft, None)):
                logits = self._logits(row)
                token = choose(logits)
                if token == expected:
                    self._count_accepted()
                yield Step(number, token, logits)
                number += 1
                if token in end_tokens or number == max_new_tokens:
                    return
                if token != expected:
                    break
            draft = tuple(next_draft(max_new_tokens - number - 1))[: max_new_tokens - number - 1]
            self._append(number - 1, (token, *draft))

    def _read_prompt(self, prompt: PromptInputs, known: int, draft: Sequence[int]) -> Decoded:
        self._first_position, self._prompt_length = prompt.next_position, prompt.embeds.shape[1]
        self._keep = self._engine.rewind
        embeds, positions = prompt.embeds[:, known:], prompt.positions[:, :, known:]
        if draft:
            embeds = np.concatenate([embeds, self._embedded(draft)], axis=1)
            positions = np.concatenate([positions, text_positions(prompt.next_position, len(draft))], axis=2)
        return self._advance("prefill", embeds, positions, draft)

    def _append(self, written: int, tokens: tuple[int, ...]) -> None:
        """Read the token at place `written` of the reply and the draft behind it; what was kept from there is wrong."""
        self._keep(self._prompt_length + written)
        self._keep = self._engine.rewind
        kind: Literal["verify", "decode"] = "verify" if len(tokens) > 1 else "decode"
        positions = text_positions(self._first_position + written, len(tokens))
        self._advance(kind, self._embedded(tokens), positions, tokens[1:])

    def _advance(
        self, kind: Literal["prefill", "verify", "decode"], embeds: Floats, positions: Ints, draft: Sequence[int]
    ) -> Decoded:
        num_new = embeds.shape[1]
        rows = np.arange(num_new - len(draft) - 1, num_new, dtype=np.int64)
        started = time.perf_counter()
        decoded = self._engine.advance(embeds, positions, rows)
        self.passes.append(Pass(kind, num_new, len(draft), 0, time.perf_counter() - started))
        self._rows, self._draft = decoded.logits[0], tuple(draft)
        return decoded

    def _count_accepted(self) -> None:
        last = self.passes[-1]
        self.passes[-1] = last._replace(num_accepted=last.num_accepted + 1)

    def _embedded(self, tokens: Sequence[int]) -> Floats:
        return self._embed(np.array(tokens, dtype=np.int64))[None]

    def _logits(self, row: int) -> Floats:
        if self._rows is None:
            raise RuntimeError("steps() was called before prefill()")
        logits: Floats = self._rows[row]
        return logits
