"""The native engine over stand-ins for CUDA and TensorRT: what it says is what the ONNX Runtime engine says.

The stand-ins (tests/native.py) run the same graphs; here the addresses, copies, profiles and captures are under test.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judo_edge.bundle import Bundle
from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError, PlanError
from judo_edge.plans import Gpu, PlanStore, gpu_of_driver, key_of_user, plans_folder
from judo_edge.runtime.engines import engine_from_bundle, tensorrt
from judo_edge.runtime.engines.graphs import GraphEngine

pytest.importorskip("torch", reason="needs the extra export")
from judo_edge.export.graphs import GraphForm
from tests.engines import FORMS, form_bundle, form_id, random_prompt
from tests.native import ENVIRONMENT, FakeCuda, fake_plan, fake_tensorrt, native_engine
from tests.tiny import TinyShape

NUM_TOKENS, CAPACITY, NUM_STEPS = 70, 100, 12
DEVICES = {"copied": FakeCuda, "mapped": lambda: FakeCuda(is_integrated=True), "plain": lambda: FakeCuda(False, False)}


@pytest.fixture(scope="module", params=FORMS, ids=form_id)
def bundle(request: pytest.FixtureRequest, bundle_of: Callable[[GraphForm], Bundle]) -> Bundle:
    return bundle_of(request.param)


def tolerance(bundle: Bundle) -> float:
    return 2e-2 if bundle.manifest.dtype == "float16" else 2e-5


def written(engine: GraphEngine, num_steps: int = NUM_STEPS) -> tuple[list[int], list[Floats]]:
    """Read a prompt and write greedily, each token a row of its own; then a draft of five, taken back and put again."""
    engine.start(CAPACITY)
    tokens: list[int] = []
    rows: list[Floats] = []

    def advance(embeds: Floats, positions: Ints, wanted: list[int]) -> None:
        logits = engine.advance(embeds, positions, np.array(wanted)).logits
        rows.append(logits.copy())
        tokens.append(int(np.argmax(logits[0, -1])))

    advance(*random_prompt(NUM_TOKENS), [NUM_TOKENS - 1])
    for _ in range(num_steps):
        advance(random_prompt(1, seed=tokens[-1])[0], np.full((3, 1, 1), engine.length), [0])
    for wanted in (list(range(5)), [4]):
        kept = engine.length
        advance(random_prompt(5, seed=3)[0], np.full((3, 1, 5), kept) + np.arange(5), wanted)
        engine.rewind(kept + 2)
    advance(*random_prompt(1, seed=9), [0])
    return tokens, rows


@pytest.mark.parametrize("device", DEVICES)
def test_says_what_onnxruntime_says(bundle: Bundle, device: str) -> None:
    cuda: FakeCuda = DEVICES[device]()
    with engine_from_bundle(bundle, threads=1) as plain, native_engine(bundle, cuda) as native:
        assert isinstance(plain, GraphEngine)
        for _ in range(2):  # a second frame finds buffers and captures of the first
            tokens, rows = written(plain)
            own_tokens, own_rows = written(native)
            assert own_tokens == tokens and len(set(tokens)) > 3
            for one, other in zip(rows, own_rows, strict=True):
                assert one.shape == other.shape and np.abs(one - other).max() < tolerance(bundle)
    assert cuda.is_closed


def test_photos_are_encoded_one_by_one_in_order(bundle: Bundle) -> None:
    patches = np.random.default_rng(0).standard_normal((3, 16, 1176)).astype(np.float32)
    engines: list[Any] = []
    with engine_from_bundle(bundle, threads=1) as plain, native_engine(bundle, FakeCuda(), engines) as native:
        for one, other in zip(plain.encode(patches), native.encode(patches), strict=True):
            assert one is not None and other is not None and one.shape == other.shape
            assert np.abs(one - other).max() < tolerance(bundle) < np.abs(one[0] - one[1]).max()
        assert engines[0].num_runs == 3


def test_steps_of_one_shape_are_captured_once_and_launched(bundle: Bundle) -> None:
    cuda = FakeCuda()
    with native_engine(bundle, cuda) as native:
        written(native)
        is_modern = bundle.manifest.dialect == "modern"
        assert cuda.counts["capture"] == (1 if is_modern else 0), "the drafts came once for each number of rows"
        assert cuda.counts["launch"] == (NUM_STEPS if is_modern else 0), "all single steps but the first"
        written(native)
        assert cuda.counts["capture"] == (3 if is_modern else 0)


def test_mapped_memory_is_never_copied(bundle: Bundle) -> None:
    cuda = FakeCuda(is_integrated=True)
    with native_engine(bundle, cuda) as native:
        written(native)
        assert cuda.counts["uploaded"] == cuda.counts["downloaded"] == 0


def test_cache_never_crosses_the_bus(bundle: Bundle) -> None:
    cuda = FakeCuda()
    with native_engine(bundle, cuda) as native:
        native.start(CAPACITY)
        native.advance(*random_prompt(NUM_TOKENS), np.array([0]))
        before = dict(cuda.counts)
        native.advance(*random_prompt(1), np.array([0]))
        moved = {name: cuda.counts[name] - before[name] for name in ("uploaded", "downloaded")}
        vocab = bundle.manifest.model.vocab_size
        item = native.layout.dtype.itemsize
        assert moved["downloaded"] == vocab * item
        assert moved["uploaded"] <= 64 * item + 3 * 8 + 256 * item + 2 * 8, "a row, its positions, a mask, two numbers"


def test_memory_is_reported_and_does_not_grow(bundle: Bundle) -> None:
    cuda = FakeCuda()
    with native_engine(bundle, cuda) as native:
        written(native)
        first = native.backend.memory()  # type: ignore[attr-defined]
        written(native)
        assert native.backend.memory() == first  # type: ignore[attr-defined]
        assert first["caches"] > 0 and first["scratch"] == 4096
        assert first["engines"] == 1000 * len(native.layout.graphs)
        assert first["caches"] + first["inputs and outputs"] + 4096 == sum(
            block.nbytes for block in cuda.blocks.values()
        )


def test_prefix_in_the_cache_is_what_reading_it_gives(bundle: Bundle) -> None:
    prefix = np.random.default_rng(1).standard_normal((6, 4, 2, 1, 2, 16)).astype(np.float32)
    embeds, positions = random_prompt(9, seed=2)
    cuda = FakeCuda()
    with engine_from_bundle(bundle, threads=1) as plain, native_engine(bundle, cuda) as native:
        logits = []
        for engine in (plain, native):
            engine.start(CAPACITY, prefix)
            assert engine.length == 6
            logits.append(engine.advance(embeds, positions, np.array([8])).logits.copy())
        assert np.abs(logits[0] - logits[1]).max() < tolerance(bundle)
        before = cuda.counts["uploaded"]
        native.start(CAPACITY, prefix)
        assert cuda.counts["uploaded"] == before, "a prefix that lies there is not loaded again"
        assert np.array_equal(native.advance(embeds, positions, np.array([8])).logits, logits[1])
        native.start(CAPACITY)
        written(native)
        native.start(CAPACITY, prefix)
        again = native.advance(embeds, positions, np.array([8])).logits
        assert np.array_equal(again, logits[1]), "and is loaded again after something else was written there"


def test_more_positions_than_the_plans_hold_are_refused(bundle: Bundle) -> None:
    with native_engine(bundle, FakeCuda()) as native, pytest.raises(EngineError, match="--max-tokens 300"):
        native.start(300)


def test_failed_run_is_an_engine_error_and_the_next_frame_is_right(bundle: Bundle) -> None:
    engines: list[Any] = []
    cuda = FakeCuda()
    with native_engine(bundle, cuda, engines) as native:
        expected = written(native)[0]
        engines[1].fails = True
        with pytest.raises(EngineError, match="kernel failed"):
            written(native)
        engines[1].fails = False
        assert written(native)[0] == expected


def test_rows_that_cannot_be_appended_in_place_are_refused(tmp_path: Path) -> None:
    narrow = form_bundle(tmp_path / "narrow", GraphForm(), shape=TinyShape(layers=1))
    with native_engine(narrow, FakeCuda()) as native, pytest.raises(EngineError, match="multiple of 256"):
        native.start(CAPACITY)


def test_plan_that_tensorrt_refuses_names_the_rebuild(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    garbage = fake_plan(bundle, "vision").model_copy(update={"data": memoryview(b"garbage")})
    monkeypatch.setattr("tests.native.fake_plan", lambda *_: garbage)
    with pytest.raises(PlanError, match=r"bad plan.*judo-edge build"), native_engine(bundle, FakeCuda()):
        pass


def seal(bundle: Bundle, graphs: tuple[str, ...]) -> PlanStore:
    """Write sealed "plans" where the engine looks for them."""
    store = PlanStore(plans_folder(), key_of_user())
    for graph in graphs:
        plan = fake_plan(bundle, graph)
        store.write(plan.header, plan.data)
    return store


@pytest.fixture
def on_a_jetson(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCuda:
    """Stand on a device with TensorRT, CUDA and a key of its own."""
    cuda = FakeCuda(is_integrated=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(tensorrt, "gpu_of_driver", lambda: Gpu("8.7", "13.2"))
    monkeypatch.setattr(tensorrt, "current_environment", lambda builder: ENVIRONMENT)
    monkeypatch.setattr(tensorrt, "open_cuda", lambda: cuda)
    monkeypatch.setattr(tensorrt, "loaded_library", lambda builder: fake_tensorrt(cuda))
    return cuda


def test_sealed_plans_are_found_by_name_and_run(bundle: Bundle, on_a_jetson: FakeCuda) -> None:
    seal(bundle, ("vision", *bundle.manifest.decoder))
    with engine_from_bundle(bundle, "tensorrt") as native, engine_from_bundle(bundle, threads=1) as plain:
        assert isinstance(native, GraphEngine) and isinstance(plain, GraphEngine)
        assert written(native)[0] == written(plain)[0]
    assert on_a_jetson.is_closed


def test_changed_or_missing_plan_reaches_no_library(bundle: Bundle, on_a_jetson: FakeCuda) -> None:
    store = seal(bundle, ("vision",))
    with pytest.raises(PlanError, match="judo-edge build"), engine_from_bundle(bundle, "tensorrt"):
        pass
    path = store.path(bundle.content_digest, ENVIRONMENT, "vision")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(PlanError, match="changed"), engine_from_bundle(bundle, "tensorrt"):
        pass
    assert on_a_jetson.is_closed


def test_no_gpu_is_said_before_anything_else(bundle: Bundle) -> None:
    if gpu_of_driver() is not None:
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(EngineError, match="no NVIDIA GPU"):
        engine_from_bundle(bundle, "tensorrt")


def test_digest_names_the_environment(bundle: Bundle) -> None:
    native, plain = native_engine(bundle, FakeCuda()), engine_from_bundle(bundle, threads=1)
    assert len(native.digest) == 64 and native.digest != plain.digest
