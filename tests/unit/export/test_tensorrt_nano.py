"""JUDO-nano's graphs, built by TensorRT for RTX without a GPU: both dialects, every form of a weight.

The graphs are those of the shipped config; the weights are random, which no kernel's choice depends on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra rtx)")

from judo_edge.export.graphs import GraphForm, GraphSpec, ProbeForm, graphs_from_config
from judo_edge.export.tensorrt import Built, HeadFacts, LayerReport, expanded_weights, is_weight_fused, replicates_kv
from judo_edge.export.tensorrt.report import Kernel
from judo_edge.shipped import _assets
from tests.tools.segments import built, in_form, write_random

pytestmark = pytest.mark.slow

HEADS = HeadFacts(heads=4, kv_heads=2, head_dim=64, capacity=1024)
FORMS = {"FP16": "float", "W8A16": "int8-channel", "W8A8": "int8-static", "W4A16": "int4-block"}
DECODERS = [(dialect, "decoder", form) for dialect in ("modern", "legacy") for form in FORMS]
VISIONS = [(dialect, "vision", form) for dialect in ("modern", "legacy") for form in FORMS]
FUSED = [c for c in DECODERS if c[2] in ("W8A16", "W4A16")] + [c for c in VISIONS if c[2] == "W8A16"]
_PATCHES = "visual.patch_embed.proj"

Result = tuple[GraphSpec, Built, LayerReport]
Case = tuple[str, str, str]
Results = dict[Case, "Future[Result]"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """Trace each dialect once, then build two graphs at a time."""
    config = json.loads((_assets() / "judo-nano" / "config.json").read_text())
    traced = {d: graphs_from_config(config, 504, GraphForm(d, "float16")) for d in ("modern", "legacy")}  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("nano")

    def make(case: Case) -> Result:
        dialect, name, form = case
        graph = traced[dialect].vision if name == "vision" else traced[dialect].decoder[0]
        changed = in_form(graph, FORMS[form], leave=(_PATCHES,))
        place = folder / "-".join(case)
        place.mkdir()
        path, _ = write_random(changed, place)
        return changed, *built(changed, dialect, path, place / "plans", HEADS)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield {case: pool.submit(make, case) for case in (*VISIONS, *DECODERS)}


@pytest.mark.parametrize("case", [*DECODERS, *VISIONS], ids="-".join)
def test_it_builds_and_lists_its_kernels(results: Results, case: Case) -> None:
    graph, took, report = results[case].result()
    assert took.plan_bytes > 1e6 and took.kernels == len(report.kernels) > 30
    sources = {source for kernel in report.kernels for source in kernel.sources}
    assert {linear.node for linear in graph.linears} <= sources, "every linear layer is somewhere"


@pytest.mark.parametrize("case", FUSED, ids="-".join)
def test_weight_only_layers_read_integers_in_every_profile(results: Results, case: Case) -> None:
    """All but nano's head: 501 outputs are odd, so the builder pads them and writes the head out as float16."""
    graph, _, report = results[case].result()
    linears = [linear for linear in graph.linears if linear.node != _PATCHES]
    expected = ["lm_head"] if case[1] == "decoder" else []
    assert [linear.node for linear in linears if not is_weight_fused(report, linear)] == expected
    assert len(expanded_weights(report)) == len(expected) * 3, "once in each profile"


@pytest.mark.parametrize("case", [c for c in [*DECODERS, *VISIONS] if c[2] == "W8A8"], ids="-".join)
def test_static_layers_multiply_integers(results: Results, case: Case) -> None:
    """Rounding, an integer product and a separate multiply: three kernels, where weight-only int8 has one."""
    graph, _, report = results[case].result()
    assert all(is_weight_fused(report, linear) for linear in graph.linears if linear.node != _PATCHES)
    assert any(rounds(kernel) for kernel in report.kernels)
    products = [kernel for kernel in report.kernels if kernel.integer_weights]
    assert all(any(t.dtype == "Int8" for t in kernel.inputs) for kernel in products)


def rounds(kernel: Kernel) -> bool:
    return any(out.dtype == "Int8" for out in kernel.outputs)


@pytest.mark.parametrize("dialect", ["modern", "legacy"])
def test_int4_in_the_tower_is_written_out(results: Results, dialect: str) -> None:
    """Why no recipe has it: 1,296 rows at once are a product of float16, with the weights expanded before it."""
    graph, _, report = results[dialect, "vision", "W4A16"].result()
    assert not any(is_weight_fused(report, linear) for linear in graph.linears if linear.node.endswith("qkv"))


@pytest.mark.parametrize("form", list(FORMS))
def test_keys_and_values_are_not_copied_for_each_query_head(results: Results, form: str) -> None:
    assert not replicates_kv(results["modern", "decoder", form].result()[2])


def test_float_graphs_read_no_integers(results: Results) -> None:
    graph, _, report = results["modern", "decoder", "FP16"].result()
    assert not any(is_weight_fused(report, linear) for linear in graph.linears)


@pytest.mark.parametrize("dialect", ["modern", "legacy"])
def test_a_cell_probe_leaves_every_weight_fused(dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    config = json.loads((_assets() / "judo-nano" / "config.json").read_text())
    form = GraphForm(dialect, "float16", probe=ProbeForm(3, 4))  # type: ignore[arg-type]
    graph = in_form(graphs_from_config(config, 504, form).decoder[0], FORMS["W8A16"])
    path, _ = write_random(graph, tmp_path)
    _, report = built(graph, dialect, path, tmp_path / "plans", HEADS)
    assert [linear.node for linear in graph.linears if not is_weight_fused(report, linear)] == ["lm_head"]
    assert len(expanded_weights(report)) == 3, "the head, once in each profile"
    assert any(out.name == "cells" for kernel in report.kernels for out in kernel.outputs)
