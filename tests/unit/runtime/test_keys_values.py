"""Keys and values read out of an engine's cache and given back to it, over every form and backend; and their store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from judo_edge.bundle import Bundle
from judo_edge.core import Floats
from judo_edge.errors import EngineError
from judo_edge.runtime.arraystore import ArrayStore, array_key
from judo_edge.runtime.decoder import PromptInputs
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.engines.base import KeysValues
from judo_edge.runtime.engines.device import DeviceMemory
from judo_edge.runtime.engines.graphs import GraphEngine
from judo_edge.runtime.prefixes import PrefixStore

pytest.importorskip("torch", reason="needs the extra export")
from judo_edge.export.graphs import GraphForm
from tests.engines import FORMS, SHAPE, form_id, random_prompt
from tests.native import FakeCuda, native_engine

NUM_TOKENS, HEAD, CAPACITY = 70, 40, 100
ROW = (SHAPE.layers, 2, 1, SHAPE.kv_heads, SHAPE.hidden_size // SHAPE.heads)
OPENERS: dict[str, Callable[[Bundle], GraphEngine]] = {
    "onnxruntime": lambda bundle: engine_from_bundle(bundle, threads=1),  # type: ignore[dict-item, return-value]
    "native": lambda bundle: native_engine(bundle, FakeCuda()),
    "native-mapped": lambda bundle: native_engine(bundle, FakeCuda(is_integrated=True)),
}


@pytest.fixture(scope="module", params=FORMS, ids=form_id)
def bundle(request: pytest.FixtureRequest, bundle_of: Callable[[GraphForm], Bundle]) -> Bundle:
    return bundle_of(request.param)


@pytest.fixture(scope="module", params=OPENERS)
def engine(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[GraphEngine]:
    with OPENERS[request.param](bundle) as opened:
        yield opened


def tolerance(engine: GraphEngine) -> float:
    return 2e-2 if engine.layout.dtype == np.float16 else 2e-5


def read(engine: GraphEngine, begin: int, end: int, seed: int = 0) -> Floats:
    """Feed part of the test's prompt and return a copy of its last logits."""
    embeds, positions = random_prompt(NUM_TOKENS, seed=seed)
    return engine.advance(embeds[:, begin:end], positions[..., begin:end], np.array([end - begin - 1])).logits.copy()


def head(engine: GraphEngine) -> KeysValues:
    engine.start(CAPACITY)
    read(engine, 0, HEAD)
    return engine.keys_values(0, HEAD)


def test_read_out_and_given_back_is_the_same_bit_for_bit(engine: GraphEngine) -> None:
    engine.start(CAPACITY)
    whole = read(engine, 0, NUM_TOKENS)
    kept = head(engine)
    assert kept.shape == (HEAD, *ROW) and kept.dtype == engine.layout.dtype and np.isfinite(kept).all()
    at_once = read(engine, HEAD, NUM_TOKENS)
    assert np.abs(at_once - whole).max() < tolerance(engine)
    engine.start(CAPACITY)
    read(engine, 0, NUM_TOKENS, seed=5)
    for _ in range(2):  # the second time it lies in the cache already
        engine.start(CAPACITY, kept)
        assert engine.length == HEAD
        assert np.array_equal(engine.keys_values(0, HEAD), kept)
        assert np.array_equal(read(engine, HEAD, NUM_TOKENS), at_once)
    assert np.array_equal(engine.keys_values(0, HEAD), kept)


def test_any_range_is_that_part_of_the_whole(engine: GraphEngine) -> None:
    engine.start(CAPACITY)
    read(engine, 0, NUM_TOKENS)
    whole = engine.keys_values(0, NUM_TOKENS)
    for begin, end in ((0, 1), (3, 17), (NUM_TOKENS - 1, NUM_TOKENS)):
        assert np.array_equal(engine.keys_values(begin, end), whole[begin:end])
    assert len({whole[:, layer, kind].tobytes() for layer in range(SHAPE.layers) for kind in (0, 1)}) == 8


def test_what_is_read_out_is_a_copy(engine: GraphEngine) -> None:
    kept = head(engine)
    before = kept.copy()
    engine.start(CAPACITY)
    read(engine, 0, HEAD, seed=9)
    assert np.array_equal(kept, before) and not np.array_equal(engine.keys_values(0, HEAD), before)


def test_after_a_rewind_only_what_is_kept_can_be_read(engine: GraphEngine) -> None:
    kept = head(engine)
    read(engine, HEAD, NUM_TOKENS, seed=3)
    engine.rewind(HEAD)
    assert np.array_equal(engine.keys_values(0, HEAD), kept)
    for begin, end in ((0, HEAD + 1), (-1, 3), (5, 5), (6, 5)):
        with pytest.raises(ValueError, match=f"{HEAD} positions are kept"):
            engine.keys_values(begin, end)
    read(engine, HEAD, NUM_TOKENS)
    again = engine.keys_values(0, NUM_TOKENS)
    engine.start(CAPACITY, kept)
    read(engine, HEAD, NUM_TOKENS)
    assert np.array_equal(engine.keys_values(0, NUM_TOKENS), again), "the draft that was taken back left no trace"


def test_prefix_of_another_shape_or_type_is_refused(engine: GraphEngine) -> None:
    kept = head(engine)
    for wrong in (kept[:, :-1], kept[..., :-1], kept[:, :, :1], kept.astype(np.float64)):
        with pytest.raises(EngineError, match="prefix keys and values"):
            engine.start(CAPACITY, wrong)
    with pytest.raises(EngineError, match="at most 10 positions"):
        engine.start(10, kept)


def test_device_memory_is_not_read_past_its_end() -> None:
    cuda = FakeCuda()
    memory = DeviceMemory(cuda)
    memory.block("past", 512)
    memory.load("past", np.arange(256, dtype=np.uint8))
    assert memory.read("past", 3, 250).tolist() == [250, 251, 252]
    with pytest.raises(ValueError, match="13 bytes at 500 are not within the 512 of past"):
        memory.read("past", 13, 500)


def prompt(seed: int = 0) -> PromptInputs:
    embeds, positions = random_prompt(NUM_TOKENS, seed=seed)
    return PromptInputs(embeds, positions, NUM_TOKENS)


IDS = np.arange(HEAD)
REFERENCE = array_key("ref", pixels="1")


def test_prefix_is_computed_once_and_outlives_the_process(bundle: Bundle, tmp_path: Path) -> None:
    with engine_from_bundle(bundle, threads=1) as engine:
        assert isinstance(engine, GraphEngine)
        prefixes = PrefixStore(engine, bundle, ArrayStore(tmp_path))
        first = prefixes.get(prompt(), IDS, REFERENCE)
        assert np.array_equal(first, head(engine))
        assert prefixes.get(prompt(), IDS, REFERENCE) is first
        assert (prefixes.counts.computed, prefixes.counts.hits) == (1, 1)
    with engine_from_bundle(bundle, threads=1) as engine:
        again = PrefixStore(engine, bundle, ArrayStore(tmp_path))
        found = again.get(prompt(seed=4), IDS, REFERENCE)
        assert np.array_equal(found, first) and (again.counts.computed, again.counts.read) == (0, 1)
        engine.start(CAPACITY)
        whole = read(engine, 0, NUM_TOKENS)
        engine.start(CAPACITY, found)
        assert np.abs(read(engine, HEAD, NUM_TOKENS) - whole).max() < tolerance(engine)


def test_every_part_of_the_key_counts(bundle_of: Callable[[GraphForm], Bundle], tmp_path: Path) -> None:
    plain, half = bundle_of(GraphForm()), bundle_of(GraphForm(dtype="float16"))
    with engine_from_bundle(plain, threads=1) as engine, engine_from_bundle(half, threads=1) as other:
        exact = np.zeros((3, *ROW), np.float32)
        own = PrefixStore(engine, plain)
        keys = {
            own.key(IDS),
            own.key(IDS, REFERENCE),
            own.key(IDS[:-1]),
            own.key(IDS, array_key("ref", pixels="2")),
            PrefixStore(other, half).key(IDS),
            PrefixStore(engine, plain, exact=exact).key(IDS),
        }
        assert len(keys) == 6 and own.key(IDS, REFERENCE).label == "ref" and own.key(IDS).label == "text"


def test_exact_positions_are_not_computed_again(bundle: Bundle) -> None:
    with engine_from_bundle(bundle, threads=1) as engine:
        assert isinstance(engine, GraphEngine)
        exact = head(engine)[:7].astype(np.float32)
        wrong = prompt()
        wrong.embeds[:, :7] = 99
        assert np.abs(PrefixStore(engine, bundle, exact=exact).get(wrong, IDS) - head(engine)).max() < tolerance(engine)
        short = PrefixStore(engine, bundle, exact=exact).get(wrong, IDS[:5])
        assert np.array_equal(short, exact[:5].astype(engine.layout.dtype))


def test_memory_of_prefixes_is_bounded(bundle: Bundle, tmp_path: Path) -> None:
    with engine_from_bundle(bundle, threads=1) as engine:
        size = 40 * int(np.prod(ROW)) * np.dtype(bundle.manifest.dtype).itemsize
        prefixes = PrefixStore(engine, bundle, ArrayStore(tmp_path), max_bytes=2 * size)
        for number in (0, 1, 2, 0):
            prefixes.get(prompt(number), IDS, array_key("ref", pixels=str(number)))
            assert prefixes.num_bytes() <= 2 * size
        assert (prefixes.counts.computed, prefixes.counts.read) == (3, 1)
        small = PrefixStore(engine, bundle, max_bytes=1)
        first = small.get(prompt(), IDS)
        assert small.get(prompt(), IDS) is first, "the one in use stays"
