"""What TensorRT for RTX makes of a decoder layer of 7B width: built ahead of time, without a GPU, random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra rtx)")

from judo_edge.export.graphs import GraphSpec
from judo_edge.export.tensorrt import Built, LayerReport, expanded_weights, is_weight_fused, replicates_kv
from judo_edge.export.tensorrt.memory import BASE, FACTOR
from judo_edge.plans import PlanStore, Range, key_of_user, profiles
from tests.tools.segments import QWEN_7B, built, in_form, segment, write_random

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Layer:
    """One layer as it was built."""

    graph: GraphSpec
    path: Path
    weights: int
    built: Built
    report: LayerReport


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("layers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield folder


@pytest.fixture(scope="module")
def float_layer() -> GraphSpec:
    return segment(QWEN_7B, "modern", "float")


@pytest.fixture(scope="module")
def layer(folder: Path, float_layer: GraphSpec) -> Layer:
    graph = in_form(float_layer, "int8-channel")
    path, weights = write_random(graph, folder)
    return Layer(graph, path, weights, *built(graph, "modern", path, folder / "plans"))


def test_every_int8_weight_is_read_as_it_is(layer: Layer) -> None:
    assert len(layer.graph.linears) == 7
    assert [linear.node for linear in layer.graph.linears if not is_weight_fused(layer.report, linear)] == []
    assert expanded_weights(layer.report) == ()


def test_keys_and_values_are_not_copied_for_each_query_head(layer: Layer) -> None:
    assert layer.report.facts.capacity == 1536 and not replicates_kv(layer.report)
    caches = [
        out for kernel in layer.report.kernels for out in kernel.outputs if 1536 in out.shape and 128 in out.shape
    ]
    assert caches, "the listing shows the cache at all"


def test_memory_stays_within_the_model(layer: Layer) -> None:
    assert 230e6 < layer.weights < 240e6 and layer.built.plan_bytes > layer.weights
    estimate = BASE + FACTOR * layer.weights
    assert layer.weights < layer.built.peak_bytes < 1.1 * estimate and layer.built.seconds < 120


def test_the_plan_is_sealed(layer: Layer, folder: Path) -> None:
    store = PlanStore(folder / "plans", key_of_user())
    (path,) = (folder / "plans").rglob(f"{layer.graph.name}.plan")
    assert path.stat().st_size > layer.built.plan_bytes and not list(path.parent.glob("*.partial*"))
    assert store.folder in path.parents


def test_a_step_of_exactly_one_position_would_write_weights_out(
    layer: Layer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the step's profile covers two positions; also shows that the checks above can fail."""
    one = Range(minimum=1, optimum=1, maximum=1)
    whole = profiles.decoder_profiles("modern")[-1]
    narrow = whole.model_copy(update={"axes": whole.axes | {"S": one, "R": one}})
    monkeypatch.setattr("tests.tools.segments.profiles_of", lambda *_: (narrow,))
    report = built(layer.graph, "modern", layer.path, folder / "narrow")[1]
    assert len(expanded_weights(report)) >= 7 - 3, "q, k, v and gate, up may be one product"
    assert not any(is_weight_fused(report, linear) for linear in layer.graph.linears)
