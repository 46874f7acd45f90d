"""The ONNX Runtime engine over every form of the graphs: one sequence read at once, in pieces and after a rewind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from judo_edge.bundle import Bundle, TensorDecision
from judo_edge.core import Floats
from judo_edge.errors import DependencyError, EngineError
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.engines.graphs import GraphEngine
from judo_edge.runtime.engines.masks import causal_mask
from judo_edge.runtime.engines.onnxruntime import row_multiple

pytest.importorskip("torch", reason="needs the extra export")
from judo_edge.export.graphs import GraphForm
from tests.engines import FORMS, SHAPE, form_id, random_prompt
from tests.scripted import scripted_bundle

NUM_TOKENS, CAPACITY = 9, 16


@pytest.fixture(scope="module", params=FORMS, ids=form_id)
def engine(request: pytest.FixtureRequest, bundle_of: Callable[[GraphForm], Bundle]) -> Iterator[GraphEngine]:
    with engine_from_bundle(bundle_of(request.param), threads=1) as opened:
        assert isinstance(opened, GraphEngine)
        yield opened


@pytest.fixture(scope="module")
def exact(bundle_of: Callable[[GraphForm], Bundle]) -> tuple[Floats, Floats]:
    """Last logits, and keys and values (P, L, 2, 1, Hkv, hd), of the test's prompt from the plain graph itself."""
    import onnxruntime

    bundle = bundle_of(GraphForm())
    embeds, positions = random_prompt(NUM_TOKENS)
    feeds = {
        "inputs_embeds": embeds, "positions": positions, "mask": causal_mask(NUM_TOKENS, 0),
        "past": np.zeros((0, SHAPE.layers, 2, 1, SHAPE.kv_heads, SHAPE.hidden_size // SHAPE.heads), np.float32),
        "rows": np.array([NUM_TOKENS - 1]),
    }  # fmt: skip
    session = onnxruntime.InferenceSession(str(bundle.graph("decoder")[0]), providers=["CPUExecutionProvider"])
    logits, present = session.run(["logits", "present"], feeds)
    return logits, present


def tolerance(engine: GraphEngine) -> float:
    return 2e-2 if engine.layout.dtype == np.float16 else 2e-5


def read(engine: GraphEngine, *cuts: int, rows: tuple[int, ...] = (-1,)) -> Floats:
    """Feed the prompt cut at the given places and return a copy of the last pass's logits."""
    embeds, positions = random_prompt(NUM_TOKENS)
    logits = np.empty(0, np.float32)
    for begin, end in zip((0, *cuts), (*cuts, NUM_TOKENS), strict=True):
        if end == begin:
            continue
        wanted = np.array([row % (end - begin) for row in rows])
        logits = engine.advance(embeds[:, begin:end], positions[..., begin:end], wanted).logits.copy()
    return logits


def test_every_form_says_what_the_plain_graph_says(engine: GraphEngine, exact: tuple[Floats, Floats]) -> None:
    engine.start(CAPACITY)
    assert np.abs(read(engine) - exact[0]).max() < tolerance(engine)


def test_pieces_of_a_prompt_say_what_the_whole_says(engine: GraphEngine) -> None:
    engine.start(CAPACITY)
    whole = read(engine)
    assert whole.dtype == np.float32 and whole.shape[:2] == (1, 1) and engine.length == NUM_TOKENS
    for cuts in ((4,), (1, 2, 5), tuple(range(1, NUM_TOKENS))):
        engine.start(CAPACITY)
        assert np.abs(read(engine, *cuts) - whole).max() < tolerance(engine)


def test_rewound_positions_leave_no_trace(engine: GraphEngine) -> None:
    engine.start(CAPACITY)
    whole = read(engine)
    wrong, positions = random_prompt(NUM_TOKENS, seed=7)
    engine.rewind(0)
    engine.advance(wrong, positions, np.array([0]))
    engine.rewind(0)
    assert np.array_equal(read(engine), whole)
    embeds, positions = random_prompt(NUM_TOKENS)
    engine.rewind(5)
    engine.advance(wrong[:, :3], positions[..., :3], np.array([2]))
    engine.rewind(5)
    again = engine.advance(embeds[:, 5:], positions[..., 5:], np.array([3])).logits
    assert np.abs(again - whole).max() < tolerance(engine)
    with pytest.raises(ValueError, match="are kept"):
        engine.rewind(NUM_TOKENS + 1)


def test_a_prompt_that_is_no_number_does_not_spoil_the_next(engine: GraphEngine) -> None:
    engine.start(CAPACITY)
    whole = read(engine)
    embeds, positions = random_prompt(CAPACITY, seed=3)
    engine.start(CAPACITY)
    logits = engine.advance(np.full_like(embeds, np.nan), positions, np.array([0])).logits
    assert np.isnan(logits).all(), "the caller is the one to judge"
    engine.start(CAPACITY)
    assert np.array_equal(read(engine), whole)


def test_rows_are_the_asked_ones(engine: GraphEngine) -> None:
    engine.start(CAPACITY)
    rows = read(engine, rows=(0, 3, 8))
    assert rows.shape[1] == 3 and np.abs(rows[0, 0] - rows[0, 1]).max() > 1e-3
    engine.start(CAPACITY)
    assert np.abs(read(engine)[0, 0] - rows[0, 2]).max() < tolerance(engine)


def test_too_many_positions_are_refused_and_change_nothing(engine: GraphEngine) -> None:
    engine.start(NUM_TOKENS)
    whole = read(engine)
    embeds, positions = random_prompt(1)
    with pytest.raises(EngineError, match="at most 9"):
        engine.advance(embeds, positions, np.array([0]))
    engine.rewind(0)
    assert np.array_equal(read(engine), whole)


def test_photos_are_encoded_as_a_batch_or_one_by_one(engine: GraphEngine) -> None:
    patches = np.random.default_rng(0).standard_normal((2, 16, 1176)).astype(np.float32)
    both = engine.encode(patches).rows.copy()
    alone = engine.encode(patches[1:]).rows.copy()
    assert both.dtype == np.float32 and both.shape == (2, 4, 64)
    assert np.abs(both[1:] - alone).max() < tolerance(engine) < np.abs(both[0] - both[1]).max()


def test_features_of_patches_come_with_the_rows(engine: GraphEngine) -> None:
    patches = np.random.default_rng(0).standard_normal((2, 16, 1176)).astype(np.float32)
    features = engine.encode(patches).features
    assert features is not None and features.dtype == np.float32 and features.shape == (2, 16, 32)
    assert np.isfinite(features).all() and np.abs(features[0] - features[1]).max() > 0.1


def test_a_bundle_from_before_features_gives_rows_alone(
    bundle_of: Callable[[GraphForm], Bundle], tmp_path: Path
) -> None:
    import onnx

    bundle = bundle_of(GraphForm())
    folder = shutil.copytree(bundle.folder, tmp_path / "old")
    graph = onnx.load(folder / "vision.onnx", load_external_data=False)
    del graph.graph.output[1]
    onnx.save(graph, folder / "vision.onnx")
    vision = bundle.manifest.graphs["vision"]
    entry = vision.model_copy(update={"outputs": {"embeddings": vision.outputs["embeddings"]}})
    manifest = bundle.manifest.model_copy(update={"graphs": {**bundle.manifest.graphs, "vision": entry}})
    patches = np.random.default_rng(0).standard_normal((3, 16, 1176)).astype(np.float32)
    with engine_from_bundle(Bundle(folder, manifest, "0" * 64)) as old, engine_from_bundle(bundle) as new:
        rows, features = old.encode(patches)
        assert features is None and np.array_equal(rows, new.encode(patches).rows)


def test_exact_prefix_says_what_reading_it_says(engine: GraphEngine, exact: tuple[Floats, Floats]) -> None:
    exact_keys = exact[1]
    engine.start(CAPACITY)
    whole = read(engine)
    embeds, positions = random_prompt(NUM_TOKENS)
    for known in (1, 5):
        for _ in range(2):  # the second time it lies in the cache already
            engine.start(CAPACITY, exact_keys[:known])
            assert engine.length == known
            rows = np.array([NUM_TOKENS - known - 1])
            rest = engine.advance(embeds[:, known:], positions[..., known:], rows).logits
            assert np.abs(rest - whole).max() < tolerance(engine)
    engine.start(CAPACITY, exact_keys[:5] + 1)
    wrong = engine.advance(embeds[:, 5:], positions[..., 5:], np.array([3])).logits
    assert np.abs(wrong - whole).max() > 10 * tolerance(engine), "the prefix counts"


def test_prefix_of_another_model_is_refused(engine: GraphEngine) -> None:
    with pytest.raises(EngineError, match="prefix"):
        engine.start(CAPACITY, np.zeros((3, 5, 2, 1, 2, 16), np.float32))


def test_engine_outside_its_block_is_a_bug(engine: GraphEngine) -> None:
    closed = GraphEngine(engine.name, engine.digest, engine.layout, lambda: engine.backend)
    with pytest.raises(RuntimeError, match="with"):
        closed.encode(np.zeros((1, 16, 1176), np.float32))


def test_cuda_provider_that_is_not_there_is_named(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has its CUDA provider")
    with pytest.raises(DependencyError, match="onnxruntime-gpu"):
        engine_from_bundle(scripted_bundle(tmp_path / "b"), "onnxruntime-cuda")


@pytest.mark.parametrize("form", FORMS, ids=form_id)
def test_rows_in_twos_say_the_same_up_to_the_last_place(
    form: GraphForm, bundle_of: Callable[[GraphForm], Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("judo_edge.runtime.engines.onnxruntime.row_multiple", lambda bundle: 2)
    with engine_from_bundle(bundle_of(form), threads=1) as engine:
        assert isinstance(engine, GraphEngine) and engine.backend.multiple == 2
        engine.start(NUM_TOKENS)
        whole = read(engine, rows=(0, -2, -1))
        assert whole.shape[1] == 3 and engine.length == NUM_TOKENS
        engine.start(NUM_TOKENS)
        single = read(engine, *range(1, NUM_TOKENS))
        assert engine.length == NUM_TOKENS and np.abs(single[0, 0] - whole[0, 2]).max() < tolerance(engine)


@pytest.mark.parametrize(("form", "multiple"), [("int8-block128", 2), ("int4-block128", 2), ("int8-channel", 1)])
def test_only_weights_in_blocks_need_rows_in_twos(
    form: str, multiple: int, bundle_of: Callable[[GraphForm], Bundle]
) -> None:
    bundle = bundle_of(GraphForm())
    decision = TensorDecision(form=form, dtype="float32")
    manifest = bundle.manifest.model_copy(update={"decisions": {"head": decision}})
    assert row_multiple(bundle) == 1 and row_multiple(replace(bundle, manifest=manifest)) == multiple
