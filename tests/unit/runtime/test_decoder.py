"""The decoder's loop: cache, masks, positions, ties and stops, seen from an engine that records what it is asked."""

from __future__ import annotations

import numpy as np
import pytest

from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError
from judo_edge.runtime.decoder import CacheShape, Decoder, KVCache, PromptInputs, causal_mask, greedy_token
from judo_edge.runtime.engines.base import Decoded

SHAPE = CacheShape(layers=2, kv_heads=1, head_dim=4)
VOCAB, HIDDEN = 6, 3


class Recorder:
    """An engine whose next token is the number of positions seen, and whose keys are those positions."""

    name, digest = "recorder", "0"

    def __init__(self) -> None:
        self.calls: list[tuple[Floats, Ints, Floats, Floats, Ints]] = []

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def encode(self, patches: Floats) -> Floats:
        raise NotImplementedError

    def decode(self, inputs_embeds: Floats, positions: Ints, mask: Floats, past: Floats, rows: Ints) -> Decoded:
        self.calls.append((inputs_embeds.copy(), positions.copy(), mask.copy(), past.copy(), rows.copy()))
        seen = past.shape[0] + inputs_embeds.shape[1]
        logits = np.zeros((1, 1, VOCAB), dtype=np.float32)
        logits[0, 0, seen % VOCAB] = 1
        present = np.zeros((inputs_embeds.shape[1], 2, 2, 1, 1, 4), dtype=np.float32)
        present[:] = positions[0, 0].reshape(-1, 1, 1, 1, 1, 1)
        return Decoded(logits, present)


def embed(ids: Ints) -> Floats:
    """Return rows that hold their id."""
    return np.repeat(ids[:, None].astype(np.float32), HIDDEN, axis=1)


def prompt(length: int, next_position: int) -> PromptInputs:
    positions = np.tile(np.arange(length, dtype=np.int64), (3, 1, 1))
    return PromptInputs(np.zeros((1, length, HIDDEN), dtype=np.float32), positions, next_position)


def test_steps_are_fed_back_one_at_a_time_with_growing_past() -> None:
    engine = Recorder()
    decoder = Decoder(engine, SHAPE, embed)
    decoder.prefill(prompt(4, next_position=10), max_new_tokens=8)
    tokens = [step.token for step in decoder.steps(frozenset(), 3)]
    assert tokens == [4, 5, 0]
    prefill, first, second = engine.calls
    assert prefill[3].shape[0] == 0 and first[3].shape[0] == 4 and second[3].shape[0] == 5
    assert second[3][4, 0, 0, 0, 0, 0] == 10, "the key of the first generated token is its position's"
    assert first[1].ravel().tolist() == [10, 10, 10] and second[1].ravel().tolist() == [11, 11, 11]
    assert first[0].ravel().tolist() == [4.0] * HIDDEN, "the token just chosen is what is embedded"
    assert first[2].shape == (1, 1, 1, 5) and not first[2].any()
    assert prefill[4].tolist() == [3] and first[4].tolist() == [0]


def test_end_token_is_yielded_and_costs_no_further_pass() -> None:
    engine = Recorder()
    decoder = Decoder(engine, SHAPE, embed)
    decoder.prefill(prompt(4, 4), max_new_tokens=8)
    assert [step.token for step in decoder.steps(frozenset({5}), 8)] == [4, 5]
    assert len(engine.calls) == 2


def test_a_second_prompt_starts_from_an_empty_cache() -> None:
    engine = Recorder()
    decoder = Decoder(engine, SHAPE, embed)
    for _ in range(2):
        decoder.prefill(prompt(4, 4), max_new_tokens=8)
        assert [step.token for step in decoder.steps(frozenset(), 2)] == [4, 5]
    assert engine.calls[2][3].shape[0] == 0


def test_mask_hides_only_the_future() -> None:
    mask = causal_mask(3, 2)[0, 0]
    visible = mask == 0
    assert visible.tolist() == [
        [True, True, True, False, False],
        [True, True, True, True, False],
        [True, True, True, True, True],
    ]
    assert np.exp(mask[~visible]).max() == 0


def test_tie_goes_to_the_lowest_id() -> None:
    assert greedy_token(np.array([0.0, 2.0, 2.0], dtype=np.float32)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_a_fault(value: float) -> None:
    with pytest.raises(EngineError, match="not finite"):
        greedy_token(np.array([5.0, value, 1.0], dtype=np.float32))


def test_past_is_a_contiguous_view() -> None:
    cache = KVCache(SHAPE, 6)
    cache.append(np.ones((2, 2, 2, 1, 1, 4), dtype=np.float32))
    past = cache.past
    assert past.shape == (2, 2, 2, 1, 1, 4) and past.flags.c_contiguous and past.base is not None


def test_cache_refuses_what_does_not_fit() -> None:
    cache = KVCache(SHAPE, 1)
    with pytest.raises(EngineError):
        cache.append(np.ones((2, 2, 2, 1, 1, 4), dtype=np.float32))
    with pytest.raises(EngineError):
        cache.append(np.ones((1, 3, 2, 1, 1, 4), dtype=np.float32))
    assert cache.length == 0


def test_steps_before_prefill_is_a_bug() -> None:
    with pytest.raises(RuntimeError):
        next(Decoder(Recorder(), SHAPE, embed).steps(frozenset(), 1))
