"""Replies with drafts equal plain greedy ones token for token, for every source of drafts and for malicious ones."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `export` (torch)")

from judo_edge.adapt.drawing.pairs import Pair
from judo_edge.adapt.drawing.parts import ADAPTER_KIND, BASE_KINDS
from judo_edge.adapt.heldout import heldout_pairs
from judo_edge.bundle import Bundle, open_bundle
from judo_edge.core import Event, EventKind, Frame
from judo_edge.export.pipeline import export_bundle
from judo_edge.runtime.drafts import Draft, DraftSource, Writing
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.references import ReferenceStore
from tests.pairs import PairReferences

NUM_PAIRS = int(os.environ.get("DRAFT_PAIRS", "24"))
"""`make equality` takes 200."""

pytestmark = pytest.mark.slow


class Malicious:
    """Guesses that are never meant to help, as surely as a source can be."""

    name = "malicious"

    def __init__(self, kind: str) -> None:
        self.kind, self.rng = kind, np.random.default_rng(0)

    def propose(self, writing: Writing, room: int) -> Draft:
        length = {"empty": 0, "wrong": room, "random": int(self.rng.integers(0, room + 1)), "too long": room + 999}
        count = length[self.kind]
        ids = self.rng.integers(0, 490, count) if self.kind == "random" else np.full(count, 3)
        return Draft(tuple(ids.tolist()), (1.0,) * count)

    def learn(self, writing: Writing) -> None:
        pass


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return heldout_pairs((*BASE_KINDS, ADAPTER_KIND), NUM_PAIRS, seed=79_000_000)


@pytest.fixture(scope="module", params=["cpu-fp32", "cpu-int8", "cpu-int8 openvino"])
def setting(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Recipe and engine."""
    recipe, _, engine = request.param.partition(" ")
    if engine:
        pytest.importorskip(engine, reason=f"needs the extra {engine}")
    return recipe, engine or "onnxruntime"


@pytest.fixture(scope="module")
def bundle(setting: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    recipe, _ = setting
    return open_bundle(export_bundle("judo-nano", [], recipe, tmp_path_factory.mktemp("nano") / recipe))


@pytest.fixture(scope="module")
def engine(setting: tuple[str, str], bundle: Bundle) -> Iterator[Engine]:
    with engine_from_bundle(bundle, setting[1]) as opened:
        yield opened


def inspector(bundle: Bundle, engine: Engine, pairs: list[Pair], *, is_drafting: bool = True) -> Inspector:
    return Inspector(bundle, engine, PairReferences(pairs), is_drafting=is_drafting)


def looked(asked: Inspector, pairs: list[Pair]) -> list[Inspection]:
    return [
        asked.look(Frame(str(number), pair.kind, pair.query, time.monotonic_ns())) for number, pair in enumerate(pairs)
    ]


@pytest.fixture(scope="module")
def plain(bundle: Bundle, engine: Engine, pairs: list[Pair]) -> list[tuple[int, ...]]:
    found = looked(inspector(bundle, engine, pairs, is_drafting=False), pairs)
    assert all(item.verdict.num_passes == item.verdict.num_tokens and not item.verdict.num_drafted for item in found)
    return [item.ids for item in found]


def _source(asked: Inspector, name: str) -> DraftSource:
    assert asked.drafter
    return next(source for source in asked.drafter.sources if source.name == name)


@pytest.mark.parametrize("name", ["all", "history", "mask", "format"])
def test_each_source_changes_the_passes_and_no_token(
    name: str, bundle: Bundle, engine: Engine, pairs: list[Pair], plain: list[tuple[int, ...]]
) -> None:
    asked = inspector(bundle, engine, pairs)
    assert asked.drafter
    if name != "all":
        asked.drafter.sources = [_source(asked, name)]
    found = looked(asked, pairs)
    assert [item.ids for item in found] == plain
    passes, tokens = (sum(getattr(item.verdict, key) for item in found) for key in ("num_passes", "num_tokens"))
    assert passes < tokens
    for item in found:
        assert item.verdict.num_passes + item.verdict.num_accepted >= item.verdict.num_tokens


@pytest.mark.parametrize("kind", ["empty", "wrong", "random", "too long"])
def test_malicious_drafts_change_nothing_but_time(
    kind: str, bundle: Bundle, engine: Engine, pairs: list[Pair], plain: list[tuple[int, ...]]
) -> None:
    asked = inspector(bundle, engine, pairs)
    assert asked.drafter
    asked.drafter.sources = [Malicious(kind)]
    assert [item.ids for item in looked(asked, pairs)] == plain


def test_events_come_in_order_and_end_with_the_verdict(bundle: Bundle, engine: Engine, pairs: list[Pair]) -> None:
    asked = inspector(bundle, engine, pairs)
    order = list(EventKind)
    for number, pair in enumerate(pairs[:40]):
        events: list[Event] = []
        verdict = asked.look(Frame(str(number), pair.kind, pair.query, time.monotonic_ns()), events.append).verdict
        kinds = [event.kind for event in events]
        assert kinds == sorted(kinds, key=order.index) and kinds[0] is EventKind.EARLY_VERDICT
        assert kinds.count(EventKind.VERDICT) == 1 and events[-1].value is verdict
        assert [event.seconds for event in events] == sorted(event.seconds for event in events)
        assert {event.frame_id for event in events} == {str(number)} and events[-1].num_passes == verdict.num_passes
        told = {cell for event in events if event.kind is EventKind.CELLS for cell in event.value}  # type: ignore[union-attr]
        assert verdict.reply is not None and verdict.reply.mask is not None and told == verdict.reply.mask.cells
        assert events[0].num_passes == 1, "the first verdict is known after the pass over the prompt"


def test_memory_of_replies_makes_the_first_frame_after_a_restart_fast(
    bundle: Bundle, engine: Engine, pairs: list[Pair], tmp_path: Path
) -> None:
    good = [pair for pair in pairs if pair.defect is None and pair.kind == BASE_KINDS[0]][:4]
    passes = []
    for _ in range(2):
        asked = Inspector(bundle, engine, PairReferences(good), store=ReferenceStore(tmp_path))
        passes.append(looked(asked, good)[0].verdict.num_passes)
    assert passes[1] == 1 < passes[0]
