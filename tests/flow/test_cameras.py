"""JUDO-nano: frames inspected together get the replies of one by one, token for token."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `export` (torch)")

from judo_edge.adapt.drawing.pairs import Pair
from judo_edge.adapt.drawing.parts import BASE_KINDS
from judo_edge.adapt.heldout import heldout_pairs
from judo_edge.bench.counting import CountingEngine
from judo_edge.bundle import Bundle, open_bundle
from judo_edge.core import Frame
from judo_edge.export.pipeline import export_bundle
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector
from tests.pairs import PairReferences

NUM_FRAMES = 24

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return heldout_pairs(BASE_KINDS[:3], NUM_FRAMES, seed=79_500_000)


@pytest.fixture(scope="module", params=["cpu-fp32", "cpu-int8"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("nano")
    return open_bundle(export_bundle("judo-nano", [], request.param, folder / request.param))


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[CountingEngine]:
    with CountingEngine(engine_from_bundle(bundle)) as opened:
        yield opened


def frames(pairs: list[Pair]) -> list[Frame]:
    now = time.monotonic_ns()
    return [Frame(str(number), pair.kind, pair.query, now) for number, pair in enumerate(pairs)]


def said(inspection: Inspection) -> tuple[object, ...]:
    return inspection.ids, inspection.verdict.decision, inspection.verdict.reply


@pytest.fixture(scope="module")
def plain(bundle: Bundle, engine: CountingEngine, pairs: list[Pair]) -> list[tuple[object, ...]]:
    single = Inspector(bundle, engine, PairReferences(pairs), is_drafting=False)
    return [said(single.look(frame)) for frame in frames(pairs)]


@pytest.mark.parametrize("is_drafting", [True, False])
def test_replies_in_batches_are_those_of_one_by_one(
    is_drafting: bool, bundle: Bundle, engine: CountingEngine, pairs: list[Pair], plain: list[tuple[object, ...]]
) -> None:
    asked = Inspector(bundle, engine, PairReferences(pairs), is_drafting=is_drafting)
    waiting, found = frames(pairs), []
    for size in (1, 2, 3, 4, 5, 5, 4):
        batch, waiting = waiting[:size], waiting[size:]
        engine.take()
        found += asked.look_together(batch)
        shared = max(engine.take().passes, key=lambda one: one.new)
        assert shared.new >= size * (len(asked.prompt) - shared.kept), "one pass reads all prompts"
    assert not waiting and [said(one) for one in found] == plain
    assert len({inspection.verdict.decision for inspection in found}) > 1


def test_a_prompt_has_the_same_logits_alone_and_in_a_batch_bit_for_bit(bundle: Bundle, engine: CountingEngine) -> None:
    num_tokens, hidden = 101, bundle.manifest.model.hidden_size  # an odd number: the last row has a kernel of its own
    rows = 0.02 * np.random.default_rng(0).standard_normal((5, num_tokens, hidden)).astype(np.float32)
    positions, wanted = np.tile(np.arange(num_tokens), (3, 5, 1)), np.arange(num_tokens - 30, num_tokens)
    single = []
    for number in range(5):
        engine.start(200)
        single.append(engine.advance(rows[number : number + 1], positions[:, :1], wanted).logits[0].copy())
    for batch in (2, 3, 5):
        engine.start(200, batch=batch)
        together = engine.advance(rows[:batch], positions[:, :batch], wanted).logits
        assert np.array_equal(together, np.stack(single[:batch]))
