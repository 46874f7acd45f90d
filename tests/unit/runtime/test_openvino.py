"""The OpenVINO engine says what ONNX Runtime says of the same graphs, at once, in pieces, rewound and from a prefix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

openvino = pytest.importorskip("openvino", reason="needs the extra openvino")
pytest.importorskip("torch", reason="needs the extra export")

from openvino import opset13 as ops

from judo_edge.bundle import Bundle
from judo_edge.core import Floats
from judo_edge.errors import EngineError
from judo_edge.export.graphs import GraphForm
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.engines.backend import Call
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.engines.graphs import GraphEngine
from judo_edge.runtime.engines.openvino import OpenVinoBackend, has_byte_products
from judo_edge.runtime.engines.openvinograph import common_block, fill_blocks
from tests.engines import FORMS, form_id, random_prompt

FLOAT_FORMS = [form for form in FORMS if (form.dialect, form.dtype) == ("legacy", "float32")]
NUM_TOKENS, CAPACITY = 41, 64


@pytest.fixture(scope="module", params=[True, False], ids=["rounding", "float"])
def is_rounding(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module", params=FLOAT_FORMS, ids=form_id)
def engine(
    request: pytest.FixtureRequest, is_rounding: bool, bundle_of: Callable[[GraphForm], Bundle]
) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("judo_edge.runtime.engines.openvino.has_byte_products", lambda: is_rounding)
        with engine_from_bundle(bundle_of(request.param), "openvino", threads=1) as opened:
            yield opened


@pytest.fixture(scope="module")
def slow(bundle_of: Callable[[GraphForm], Bundle]) -> Iterator[Engine]:
    with engine_from_bundle(bundle_of(GraphForm()), "onnxruntime", threads=1) as opened:
        yield opened


def read(engine: Engine, *cuts: int) -> Floats:
    """Feed the prompt cut at the given places and return a copy of all logits."""
    embeds, positions = random_prompt(NUM_TOKENS)
    found = []
    for begin, end in zip((0, *cuts), (*cuts, NUM_TOKENS), strict=True):
        rows = np.arange(end - begin)
        found.append(engine.advance(embeds[:, begin:end], positions[:, :, begin:end], rows).logits.copy())
    return np.concatenate(found, axis=1)


def test_it_says_what_onnxruntime_says(engine: Engine, slow: Engine) -> None:
    for cuts in ((), (4,), (1, 2, 7), (8,), (17,), (16, 33)):
        engine.start(CAPACITY)
        slow.start(CAPACITY)
        np.testing.assert_allclose(read(engine, *cuts), read(slow), atol=2e-5, rtol=0)


def test_rewound_positions_leave_no_trace(engine: Engine) -> None:
    engine.start(CAPACITY)
    whole = read(engine)
    embeds, positions = random_prompt(NUM_TOKENS)
    engine.rewind(5)
    again = engine.advance(embeds[:, 5:], positions[:, :, 5:], np.arange(NUM_TOKENS - 5)).logits
    np.testing.assert_allclose(again, whole[:, 5:], atol=2e-5, rtol=0)


def test_passes_begin_at_multiples_so_that_few_shapes_are_compiled(
    engine: Engine, is_rounding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(engine, GraphEngine)
    shapes: set[tuple[int, ...]] = set()
    run = engine.backend.run

    def noted(calls: Sequence[Call]) -> None:
        shapes.update(
            (call.inputs["past"].shape[0], call.inputs["inputs_embeds"].shape[1])
            for call in calls
            if "past" in call.inputs
        )
        run(calls)

    monkeypatch.setattr(engine.backend, "run", noted)
    engine.start(CAPACITY)
    read(engine, 5, *range(6, NUM_TOKENS))
    alone = {(0, 5), *((kept, 1) for kept in range(5, NUM_TOKENS))}
    assert shapes == ({(0, 16), (16, 16), (32, 16)} if is_rounding else alone)


@pytest.mark.parametrize(
    ("flags", "has_them"),
    [("fpu avx2", False), ("avx2 avx512_vnni", True), ("avx2 avx_vnni", True), ("amx_int8", True), ("", True)],
)
def test_processors_that_multiply_bytes_are_known_by_their_flags(
    flags: str, has_them: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("judo_edge.runtime.engines.openvino.cpu_flags", lambda: frozenset(flags.split()))
    assert has_byte_products() is has_them


def test_rewinding_into_a_prefix_reads_on_behind_it(engine: Engine) -> None:
    embeds, positions = random_prompt(NUM_TOKENS)
    engine.start(CAPACITY)
    whole = read(engine)
    engine.start(CAPACITY, engine.keys_values(0, 21))
    for kept in (21, 20, 19):
        engine.rewind(kept)
        again = engine.advance(embeds[:, kept:], positions[:, :, kept:], np.arange(NUM_TOKENS - kept)).logits
        np.testing.assert_allclose(again, whole[:, kept:], atol=2e-5, rtol=0)


def test_a_prefix_says_what_reading_it_says(engine: Engine) -> None:
    embeds, positions = random_prompt(NUM_TOKENS)
    engine.start(CAPACITY)
    whole = read(engine)
    kept = engine.keys_values(0, 6)
    engine.start(CAPACITY, kept)
    again = engine.advance(embeds[:, 6:], positions[:, :, 6:], np.arange(NUM_TOKENS - 6)).logits
    np.testing.assert_allclose(again, whole[:, 6:], atol=2e-5, rtol=0)


def test_prompts_that_are_read_together_say_what_they_say_alone(engine: Engine) -> None:
    embeds, positions = random_prompt(NUM_TOKENS)
    both = np.concatenate([embeds, embeds[:, ::-1]])
    together = np.repeat(positions, 2, axis=1)
    engine.start(CAPACITY, batch=2)
    pair = engine.advance(both, together, np.arange(NUM_TOKENS)).logits.copy()
    for number in range(2):
        engine.start(CAPACITY)
        alone = engine.advance(both[number : number + 1].copy(), positions, np.arange(NUM_TOKENS)).logits
        np.testing.assert_allclose(alone[0], pair[number], atol=2e-5, rtol=0)


def test_graphs_it_has_no_operators_for_are_refused(bundle_of: Callable[[GraphForm], Bundle]) -> None:
    others = [form for form in FORMS if form not in FLOAT_FORMS]
    assert others
    for form in others:
        with pytest.raises(EngineError, match=r"wanted: legacy and float32; do: export with a recipe"):
            engine_from_bundle(bundle_of(form), "openvino")


def test_a_broken_graph_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=r"^broken\.onnx: "):
        OpenVinoBackend({"vision": tmp_path / "broken.onnx"})


def block_weights(out: int, in_features: int, block: int, rng: np.random.Generator) -> tuple[Any, Floats]:
    """Return weights as OpenVINO reads them from MatMulNBits, and the numbers they stand for."""
    blocks = -(-in_features // block)
    codes = rng.integers(1, 256, (out, blocks, block), dtype=np.uint8)
    scales = rng.random((out, blocks, 1), dtype=np.float32)
    values = ops.subtract(ops.convert(ops.constant(codes), "f32"), ops.constant(np.float32(128)))
    shape = ops.constant(np.array([out, blocks * block]))
    weights = ops.reshape(ops.multiply(values, ops.constant(scales)), shape, False)
    if blocks * block != in_features:
        bounds = [ops.constant(np.array([number])) for number in (0, in_features, 1, 1)]
        weights = ops.slice(weights, *bounds)
    exact = (codes.astype(np.float32) - 128) * scales
    return weights, exact.reshape(out, -1)[:, :in_features]


def block_layer(in_features: int, block: int, rng: np.random.Generator) -> tuple[Any, Floats]:
    """Return a model of one layer and its weights."""
    weights, exact = block_weights(8, in_features, block, rng)
    stream = ops.parameter([-1, in_features], np.float32)
    return openvino.Model([ops.result(ops.matmul(stream, weights, False, True))], [stream]), exact


def gated_mlp(width: int, units: int, rng: np.random.Generator, is_seen: bool = False) -> tuple[Any, Any]:
    """Return a gated MLP of so many units, and what it computes; `is_seen` when its units are put out too."""
    stream = ops.parameter([-1, width], np.float32)
    (gate, exact_gate), (up, exact_up) = (block_weights(units, width, 128, rng) for _ in range(2))
    down, exact_down = block_weights(width, units, 128, rng)
    biases = rng.standard_normal((2, units), dtype=np.float32)
    gated, lifted = (
        ops.add(ops.matmul(stream, weights, False, True), ops.constant(bias))
        for weights, bias in zip((gate, up), biases, strict=True)
    )
    hidden = ops.multiply(ops.multiply(gated, ops.sigmoid(gated)), lifted)
    results = [ops.result(ops.matmul(hidden, down, False, True)), *([ops.result(hidden)] if is_seen else [])]

    def exact(x: Floats) -> Floats:
        one, other = x @ exact_gate.T + biases[0], x @ exact_up.T + biases[1]
        return np.asarray(one / (1 + np.exp(-one)) * other @ exact_down.T)

    return openvino.Model(results, [stream]), exact


PLAIN = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "INFERENCE_PRECISION_HINT": "f32"}


@pytest.mark.parametrize("units", [200, 171])
def test_units_of_zeros_fill_the_last_block_of_a_gated_mlp(units: int) -> None:
    rng = np.random.default_rng(units)
    model, exact = gated_mlp(128, units, rng)
    fill_blocks(model)
    widths = [node.input_value(1).get_partial_shape()[1].get_length() for node in products(model)]
    assert widths == [128, 128, 256] and common_block(model) == 128
    x = rng.standard_normal((3, 128), dtype=np.float32) / 128
    expected = exact(x)
    found = openvino.compile_model(model, "CPU", PLAIN)([x])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("units", "is_seen"), [(256, False), (192, False), (200, True)])
def test_units_that_fit_or_that_others_see_stay_as_many(units: int, is_seen: bool) -> None:
    model, _ = gated_mlp(128, units, np.random.default_rng(0), is_seen)
    fill_blocks(model)
    assert products(model)[-1].input_value(1).get_partial_shape()[1].get_length() == units


def products(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]


@pytest.mark.parametrize(("in_features", "block", "group"), [(256, 128, 128), (192, 128, 64), (160, 128, 32)])
def test_blocks_that_are_not_full_are_cut_and_weights_stay(in_features: int, block: int, group: int) -> None:
    rng = np.random.default_rng(in_features)
    model, weights = block_layer(in_features, block, rng)
    assert common_block(model) == group
    stream = rng.standard_normal((3, in_features), dtype=np.float32)
    found = openvino.compile_model(model, "CPU", PLAIN)
    np.testing.assert_allclose(found([stream])[0], stream @ weights.T, rtol=1e-4, atol=1e-2)


def test_a_width_that_no_kernel_takes_is_left_alone() -> None:
    model, _ = block_layer(40, 16, np.random.default_rng(0))
    before = [node.get_type_name() for node in model.get_ordered_ops()]
    assert common_block(model) == 0
    assert [node.get_type_name() for node in model.get_ordered_ops()] == before
