"""Several prompts read in one pass say what each says alone, over every form of the graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from judo_edge.bundle import Bundle
from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.engines.base import KeysValues
from judo_edge.runtime.engines.graphs import GraphEngine

pytest.importorskip("torch", reason="needs the extra export")
from judo_edge.export.graphs import GraphForm
from tests.engines import FORMS, form_id, random_prompt
from tests.native import FakeCuda, native_engine

NUM_TOKENS, HEAD, CAPACITY, BATCH = 20, 12, 40, 3
ROWS = np.array([3, NUM_TOKENS - HEAD - 1])


@pytest.fixture(scope="module", params=FORMS, ids=form_id)
def engine(request: pytest.FixtureRequest, bundle_of: Callable[[GraphForm], Bundle]) -> Iterator[GraphEngine]:
    with engine_from_bundle(bundle_of(request.param), threads=1) as opened:
        assert isinstance(opened, GraphEngine)
        yield opened


def tolerance(engine: GraphEngine) -> float:
    return 2e-2 if engine.layout.dtype == np.float16 else 2e-5


def prompts(begin: int, end: int, *seeds: int) -> tuple[Floats, Ints]:
    """Return part of the test's prompts, one for each seed, as a batch."""
    found = [random_prompt(NUM_TOKENS, seed=seed) for seed in seeds]
    embeds, positions = np.concatenate([one[0] for one in found]), np.concatenate([one[1] for one in found], axis=1)
    return embeds[:, begin:end], positions[..., begin:end]


def alone(engine: GraphEngine, seed: int, prefix: KeysValues | None = None) -> tuple[Floats, KeysValues]:
    """Return the last pass's logits (R, V) of one prompt, and all its keys and values."""
    engine.start(CAPACITY, prefix)
    if prefix is None:
        engine.advance(*prompts(0, HEAD, seed), np.array([0]))
    logits = engine.advance(*prompts(HEAD, NUM_TOKENS, seed), ROWS).logits[0].copy()
    return logits, engine.keys_values(0, NUM_TOKENS)


def head(engine: GraphEngine, seed: int) -> KeysValues:
    engine.start(CAPACITY)
    engine.advance(*prompts(0, HEAD, seed), np.array([0]))
    return engine.keys_values(0, HEAD)


def test_a_batch_says_what_each_prompt_says_alone(engine: GraphEngine) -> None:
    single = [alone(engine, seed) for seed in range(BATCH)]
    engine.start(CAPACITY, batch=BATCH)
    engine.advance(*prompts(0, HEAD, *range(BATCH)), np.array([0]))
    together = engine.advance(*prompts(HEAD, NUM_TOKENS, *range(BATCH)), ROWS).logits
    assert together.shape[:2] == (BATCH, ROWS.size) and engine.length == NUM_TOKENS
    for item, (logits, kept) in enumerate(single):
        assert np.abs(together[item] - logits).max() < tolerance(engine)
        found = engine.keys_values(0, NUM_TOKENS)[:, :, :, item : item + 1]
        assert found.shape == kept.shape and np.abs(found - kept).max() < tolerance(engine)
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_the_number_of_prompts_changes_no_bit_of_one(engine: GraphEngine) -> None:
    found = {}
    for batch in (1, 2, BATCH):
        engine.start(CAPACITY, batch=batch)
        found[batch] = engine.advance(*prompts(0, NUM_TOKENS, *range(batch)), ROWS).logits[0].copy()
    if engine.layout.dtype == np.float32:
        assert np.array_equal(found[1], found[2]) and np.array_equal(found[1], found[BATCH])
    assert np.abs(found[1] - found[BATCH]).max() < tolerance(engine)


def test_one_prefix_serves_all_and_each_may_have_its_own(engine: GraphEngine) -> None:
    heads = [head(engine, seed) for seed in range(BATCH)]
    for prefix, seeds in ((heads[1], (1, 1, 1)), (np.concatenate(heads, axis=3), range(BATCH))):
        for _ in range(2):  # the second time it lies in the cache already
            engine.start(CAPACITY, prefix, BATCH)
            assert engine.length == HEAD
            logits = engine.advance(*prompts(HEAD, NUM_TOKENS, *seeds), ROWS).logits.copy()
        for item, seed in enumerate(seeds):
            assert np.array_equal(engine.keys_values(0, HEAD)[:, :, :, item : item + 1], heads[seed])
        for item, seed in enumerate(seeds):
            assert np.abs(logits[item] - alone(engine, seed, heads[seed])[0]).max() < tolerance(engine)


def test_one_prompt_of_a_batch_goes_on_alone(engine: GraphEngine) -> None:
    whole, _ = alone(engine, 2)
    engine.start(CAPACITY, batch=BATCH)
    engine.advance(*prompts(0, HEAD, *range(BATCH)), np.array([0]))
    kept = engine.keys_values(0, HEAD)[:, :, :, 2:]
    assert np.abs(alone(engine, 2, kept)[0] - whole).max() < tolerance(engine)


def test_a_prompt_that_is_no_number_spoils_no_other(engine: GraphEngine) -> None:
    embeds, positions = prompts(0, NUM_TOKENS, 0, 1)
    engine.start(CAPACITY, batch=2)
    right = engine.advance(embeds, positions, ROWS).logits[1].copy()
    embeds[0] = np.nan
    engine.start(CAPACITY, batch=2)
    logits = engine.advance(embeds, positions, ROWS).logits
    assert np.isnan(logits[0]).all() and np.array_equal(logits[1], right)
    engine.start(CAPACITY, batch=2)
    engine.advance(*prompts(0, NUM_TOKENS, 0, 1), ROWS)
    assert np.isfinite(engine.keys_values(0, NUM_TOKENS)).all()


def test_what_does_not_fit_the_batch_is_refused(engine: GraphEngine) -> None:
    for batch in (0, engine.max_batch + 1):
        with pytest.raises(EngineError, match="prompts at once"):
            engine.start(CAPACITY, batch=batch)
    pair = np.concatenate([head(engine, 0), head(engine, 1)], axis=3)
    with pytest.raises(EngineError, match="prefix keys and values"):
        engine.start(CAPACITY, pair, 3)
    engine.start(CAPACITY, pair, 2)
    with pytest.raises(ValueError, match="rows of 3 prompts: started for 2"):
        engine.advance(*prompts(HEAD, NUM_TOKENS, 0, 1, 2), ROWS)


def test_plans_read_one_prompt_at_a_time(bundle_of: Callable[[GraphForm], Bundle]) -> None:
    with native_engine(bundle_of(GraphForm()), FakeCuda()) as native:
        assert native.max_batch == 1
        with pytest.raises(EngineError, match="read them one by one"):
            native.start(CAPACITY, batch=2)
