"""The decoder's loop: positions, ties, stops and a known prefix, seen from an engine that records what it is asked."""

from __future__ import annotations

import numpy as np
import pytest

from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError
from judo_edge.runtime.decoder import Decoder, NextDraft, PromptInputs, greedy_token, no_draft
from judo_edge.runtime.engines.base import Decoded

VOCAB, HIDDEN = 6, 3


class Recorder:
    """An engine whose next token is the number of positions kept."""

    name, digest = "recorder", "0"

    def __init__(self) -> None:
        self.calls: list[tuple[Floats, Ints, int, Ints]] = []
        self.starts: list[int] = []
        self.length = 0

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def encode(self, patches: Floats) -> Floats:
        raise NotImplementedError

    def start(self, capacity: int, prefix: Floats | None = None) -> None:
        self.starts.append(capacity)
        self.length = 0 if prefix is None else len(prefix)

    def rewind(self, length: int) -> None:
        self.length = length

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        self.calls.append((inputs_embeds.copy(), positions.copy(), self.length, rows.copy()))
        self.length += inputs_embeds.shape[1]
        logits = np.zeros((1, 1, VOCAB), dtype=np.float32)
        logits[0, 0, self.length % VOCAB] = 1
        return Decoded(logits)


def embed(ids: Ints) -> Floats:
    """Return rows that hold their id."""
    return np.repeat(ids[:, None].astype(np.float32), HIDDEN, axis=1)


def prompt(length: int, next_position: int) -> PromptInputs:
    positions = np.tile(np.arange(length, dtype=np.int64), (3, 1, 1))
    return PromptInputs(embed(np.arange(length))[None], positions, next_position)


def test_steps_are_fed_back_one_at_a_time() -> None:
    engine = Recorder()
    decoder = Decoder(engine, embed)
    decoder.prefill(prompt(4, next_position=10), max_new_tokens=8)
    tokens = [step.token for step in decoder.steps(frozenset(), 3)]
    assert tokens == [4, 5, 0] and engine.starts == [12]
    prefill, first, second = engine.calls
    assert (prefill[2], first[2], second[2]) == (0, 4, 5)
    assert first[1].ravel().tolist() == [10, 10, 10] and second[1].ravel().tolist() == [11, 11, 11]
    assert first[0].ravel().tolist() == [4.0] * HIDDEN, "the token just chosen is what is embedded"
    assert prefill[3].tolist() == [3] and first[3].tolist() == [0]


def test_known_prefix_is_not_read_again_and_positions_stay() -> None:
    engine = Recorder()
    decoder = Decoder(engine, embed)
    decoder.prefill(prompt(5, next_position=9), 2, prefix=np.zeros((3, 2, 2, 1, 1, 4), np.float32))
    assert [step.token for step in decoder.steps(frozenset(), 2)] == [5, 0]
    (rows, positions, kept, wanted), step = engine.calls
    assert rows[0, :, 0].tolist() == [3, 4] and positions[0, 0].tolist() == [3, 4] and kept == 3
    assert wanted.tolist() == [1] and step[1].ravel().tolist() == [9, 9, 9]


def test_end_token_is_yielded_and_costs_no_further_pass() -> None:
    engine = Recorder()
    decoder = Decoder(engine, embed)
    decoder.prefill(prompt(4, 4), max_new_tokens=8)
    assert [step.token for step in decoder.steps(frozenset({5}), 8)] == [4, 5]
    assert len(engine.calls) == 2


def test_a_second_prompt_starts_from_an_empty_cache() -> None:
    engine = Recorder()
    decoder = Decoder(engine, embed)
    for _ in range(2):
        decoder.prefill(prompt(4, 4), max_new_tokens=8)
        assert [step.token for step in decoder.steps(frozenset(), 2)] == [4, 5]
    assert engine.calls[2][2] == 0


def test_tie_goes_to_the_lowest_id() -> None:
    assert greedy_token(np.array([0.0, 2.0, 2.0], dtype=np.float32)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_a_fault(value: float) -> None:
    with pytest.raises(EngineError, match="not finite"):
        greedy_token(np.array([5.0, value, 1.0], dtype=np.float32))


def test_steps_before_prefill_is_a_bug() -> None:
    with pytest.raises(RuntimeError):
        next(Decoder(Recorder(), embed).steps(frozenset(), 1))


class Chained:
    """An engine whose next token follows from every token before it, drafted ones too, as a model's does."""

    name, digest = "chained", "0"

    def __init__(self) -> None:
        self.kept: list[tuple[int, int]] = []
        self.widths: list[int] = []

    @property
    def length(self) -> int:
        return len(self.kept)

    def start(self, capacity: int, prefix: Floats | None = None) -> None:
        self.kept = []

    def rewind(self, length: int) -> None:
        del self.kept[length:]

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        begin = len(self.kept)
        self.kept += zip(inputs_embeds[0, :, 0].astype(int).tolist(), positions[0, 0].tolist(), strict=True)
        self.widths.append(inputs_embeds.shape[1])
        logits = np.zeros((1, len(rows), 50), dtype=np.float32)
        for index, row in enumerate(rows):
            logits[0, index, hash(tuple(self.kept[: begin + row + 1])) % 50] = 1
        return Decoded(logits)


def chain(next_draft: NextDraft, cap: int = 30, first: tuple[int, ...] = ()) -> tuple[list[int], Decoder, Chained]:
    engine = Chained()
    decoder = Decoder(engine, embed)  # type: ignore[arg-type]
    decoder.prefill(prompt(4, next_position=2), cap, first)
    return [step.token for step in decoder.steps(frozenset({7}), cap, next_draft=next_draft)], decoder, engine


PLAIN = chain(no_draft)[0]


def test_a_right_draft_takes_one_pass_and_an_empty_one_one_for_each_token() -> None:
    written, decoder, engine = chain(no_draft, first=tuple(PLAIN))
    assert written == PLAIN and engine.widths == [4 + len(PLAIN)]
    (only,) = decoder.passes
    assert only.kind == "prefill" and only.num_accepted == len(PLAIN) == only.num_drafted
    plain = chain(no_draft)[1]
    assert len(plain.passes) == len(PLAIN) and {run.kind for run in plain.passes[1:]} == {"decode"}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_drafted_the_reply_is_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    number = 0

    def sometimes_right(room: int) -> list[int]:
        right = PLAIN[number : number + int(rng.integers(0, 9))]
        wrong = rng.integers(0, 50, int(rng.integers(0, room + 40))).tolist()
        return [*right, *wrong]

    engine = Chained()
    decoder = Decoder(engine, embed)  # type: ignore[arg-type]
    decoder.prefill(prompt(4, next_position=2), 30, tuple(PLAIN[: int(rng.integers(0, 6))]))
    written = []
    for step in decoder.steps(frozenset({7}), 30, next_draft=sometimes_right):
        written.append(step.token)
        number += 1
    assert written == PLAIN
    assert len(engine.kept) <= 4 + 30, "a draft never outgrows the reply's own room"
    assert sum(run.num_accepted for run in decoder.passes) + len(decoder.passes) >= len(written)


def test_always_wrong_drafts_cost_rows_but_no_token() -> None:
    written, decoder, _ = chain(lambda room: [(PLAIN[0] + 1) % 50] * room)
    assert written == PLAIN and sum(run.num_accepted for run in decoder.passes) <= 2


def test_a_prompt_with_the_same_head_is_read_from_there() -> None:
    engine = Chained()
    decoder = Decoder(engine, embed)  # type: ignore[arg-type]
    decoder.prefill(prompt(6, next_position=6), 30, (1, 2, 3))
    list(decoder.steps(frozenset({7}), 30))
    engine.widths.clear()
    other = prompt(6, next_position=6)
    other.embeds[0, 4:] = 40
    decoder.reread(other, kept=4)
    again = [step.token for step in decoder.steps(frozenset({7}), 30)]
    assert engine.widths[0] == 2
    fresh = Decoder(Chained(), embed)  # type: ignore[arg-type]
    fresh.prefill(other, 30)
    assert again == [step.token for step in fresh.steps(frozenset({7}), 30)]
