"""Every shipped recipe on a tiny model: the bundle opens, ONNX Runtime runs it, and it says what the float one says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judo_edge.bundle import Bundle, open_bundle
from judo_edge.core import Floats
from judo_edge.errors import CheckpointError, ConfigError, InputError
from judo_edge.export import plan
from judo_edge.export.checkpoint import open_checkpoint
from judo_edge.export.graphs import ExportedGraphs, GraphForm, graphs_from_config
from judo_edge.export.lora import MergedWeights
from judo_edge.export.pipeline import export_bundle
from judo_edge.export.plan import plan_export
from judo_edge.export.recipe import Recipe, load_recipe, recipe_folder, recipe_names
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.vision.mrope import positions_from_ids
from tests.calibrations import made_up_calibration
from tests.checkpoints import complete_checkpoint

LAYERS, TOKENS = 3, 4
IDS = np.array([290, 2, *[4] * TOKENS, 3, 290, 45, 82, 91, 117, 133, 152, 240, 33, 76], np.int64)
"""A photo of 56 pixels is 2 x 2 tokens."""
LIMITS = {"fp32": 0, "fp16": 0.01, "int8": 0.04, "w8a8": 0.15, "int4": 0.35}
"""Relative error of the logits. Coarse, for random weights of width 32 round badly: they find a wrong layout, scale or
order (errors near 1), not a small loss."""


@cache
def traced(checkpoint: Path, size: int, form: GraphForm) -> ExportedGraphs:
    return graphs_from_config(checkpoint, size, form)


@pytest.fixture(autouse=True)
def tracing_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace each form of graph once, and hand out copies: tracing takes most of an export's time."""

    def copies(config: Any, size: int, form: GraphForm) -> ExportedGraphs:
        graphs = traced(checkpoint, size, form)
        vision, *decoder = (replace(graph, model=graph.model.clone()) for graph in graphs.all)
        return replace(graphs, vision=vision, decoder=tuple(decoder))

    monkeypatch.setattr(plan, "graphs_from_config", copies)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_checkpoint(tmp_path_factory.mktemp("model") / "tiny", 56, layers=LAYERS)


@pytest.fixture(scope="module")
def calibration(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = MergedWeights(open_checkpoint(checkpoint))
    linears = traced(checkpoint, 56, GraphForm()).decoder[0].linears
    errors = {"model.layers.1.mlp.down_proj.weight": {"int8-static": 0.5}}
    folder = tmp_path_factory.mktemp("calibration") / "made-up"
    return made_up_calibration(folder, weights, linears, errors, prefix_shape=(5, LAYERS, 2, 1, 2, 8)).folder


@pytest.fixture(scope="module")
def exact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Floats, Floats]:
    return outputs_of(
        open_bundle(export_bundle(checkpoint, (), "cpu-fp32", tmp_path_factory.mktemp("fp32") / "bundle"))
    )


def outputs_of(bundle: Bundle) -> tuple[Floats, Floats]:
    """Return visual tokens (1, T, D) and logits (S, V); the last tokens come one at a time."""
    patches = np.random.default_rng(0).standard_normal((1, 16, 1176)).astype(np.float32)
    model = bundle.manifest.model
    positions = positions_from_ids(IDS, model.image_pad_id, 2, 2)[0][:, None]
    with engine_from_bundle(bundle, threads=1) as engine:
        tokens = engine.encode(patches).rows.copy()
        embeds = np.array(bundle.embedding_table()[IDS], np.float32)
        embeds[model.image_pad_id == IDS] = tokens[0]
        engine.start(len(IDS))
        logits = []
        for start, stop in ((0, 12), *((i, i + 1) for i in range(12, len(IDS)))):
            decoded = engine.advance(embeds[None, start:stop], positions[:, :, start:stop], np.arange(stop - start))
            logits.append(decoded.logits[0].copy())
    return tokens, np.concatenate(logits)


def relative_rms(found: Floats, wanted: Floats) -> float:
    return float(np.sqrt(((found - wanted) ** 2).mean() / (wanted**2).mean()))


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_exports_and_says_what_the_float_bundle_says(
    checkpoint: Path, calibration: Path, exact: tuple[Floats, Floats], tmp_path: Path, name: str
) -> None:
    recipe = load_recipe(name)
    given = calibration if recipe.needs_calibration else None
    bundle = open_bundle(export_bundle(checkpoint, (), name, tmp_path / name, calibration=given))
    manifest = bundle.manifest
    assert (manifest.dialect, manifest.dtype) == (recipe.dialect, recipe.dtype)
    assert set(manifest.graphs) == {"vision", *manifest.decoder}
    check_pieces(bundle, recipe)
    check_forms(bundle, recipe)
    losses = [relative_rms(*pair) for pair in zip(outputs_of(bundle), exact, strict=True)]
    assert losses[0] <= (0 if recipe.dtype == "float32" else 0.01)
    limit = LIMITS[name.rsplit("-", 1)[1]]
    assert losses[1] <= limit and (limit == 0) == (losses[1] == 0), losses


def check_pieces(bundle: Bundle, recipe: Recipe) -> None:
    if not recipe.layers_per_segment and recipe.head_parts == 1:
        assert bundle.manifest.decoder == ("decoder",)
        return
    heads = tuple(f"head-{i}" for i in range(recipe.head_parts))
    assert bundle.manifest.decoder == ("layers-00", *heads)
    files = ", ".join(f"{name}.onnx.data" for name in heads)
    assert bundle.manifest.decisions["lm_head.weight"].stored_in == files


def check_forms(bundle: Bundle, recipe: Recipe) -> None:
    """Every decision says a form, the reason for every exception, and where the measured errors come from."""
    manifest = bundle.manifest
    forms = {name: item.form for name, item in manifest.decisions.items()}
    layer, other = (manifest.decisions[f"model.layers.{i}.mlp.down_proj.weight"] for i in (0, 1))
    blocks = {"int4-block": 32 if recipe.engine == "onnxruntime" else 16, "int8-block": 128}
    named = {"float": recipe.dtype, **{form: f"{form}{size}" for form, size in blocks.items()}}
    assert layer.form == named.get(recipe.decoder_linears, recipe.decoder_linears)
    assert forms["model.norm.weight"] == forms["visual.blocks.0.attn.qkv.weight"] == recipe.dtype
    if recipe.decoder_linears != "int8-static":
        assert manifest.calibration is None and manifest.prefix is None and other.form == layer.form
        return
    assert (layer.error, other.form) == (0.015, "int8-channel")
    assert other.reason == "int8-static has relative error 0.5, above 0.02"
    assert manifest.calibration and manifest.calibration["split"] == "made up"
    assert manifest.prefix and manifest.prefix.ids == (1, 2, 3, 4, 5)
    assert bundle.path_of(manifest.prefix.file).stat().st_size == 5 * LAYERS * 2 * 2 * 8 * 4


def test_vision_in_int8_and_rounding_with_second_moments(
    checkpoint: Path, exact: tuple[Floats, Floats], tmp_path: Path
) -> None:
    weights = MergedWeights(open_checkpoint(checkpoint))
    linears = traced(checkpoint, 56, GraphForm()).decoder[0].linears
    calibration = made_up_calibration(tmp_path / "cal", weights, linears, gram=True)
    text = (recipe_folder() / "workstation-int4.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('vision_linears = "float"', 'vision_linears = "int8-channel"'))
    out = export_bundle(checkpoint, (), tmp_path / "mine.toml", tmp_path / "out", calibration=calibration.folder)
    decisions = open_bundle(out).manifest.decisions
    forms = {name: item.form for name, item in decisions.items()}
    assert forms["visual.blocks.0.mlp.down_proj.weight"] == forms["visual.merger.mlp.2.weight"] == "int8-channel"
    assert forms["visual.patch_embed.proj.weight"] == "float16"
    layer = decisions["model.layers.1.self_attn.k_proj.weight"]
    assert (layer.form, layer.error, layer.reason) == ("int4-block32", 0.08, "rounded with second moments")
    losses = [relative_rms(*pair) for pair in zip(outputs_of(open_bundle(out)), exact, strict=True)]
    assert 1e-3 < losses[0] < 0.03 and losses[1] < 0.6, losses  # made-up moments spoil more than they help


def test_calibration_is_asked_for_and_must_fit(checkpoint: Path, calibration: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recipe cpu-w8a8 without a calibration"):
        export_bundle(checkpoint, (), "cpu-w8a8", tmp_path / "out")
    other = complete_checkpoint(tmp_path / "other", 56, layers=LAYERS, seed=1)
    with pytest.raises(InputError, match="made from other weights"):
        export_bundle(other, (), "cpu-w8a8", tmp_path / "out", calibration=calibration)
    assert not (tmp_path / "out").exists()


def test_prefix_of_another_shape_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    weights = MergedWeights(open_checkpoint(checkpoint))
    linears = traced(checkpoint, 56, GraphForm()).decoder[0].linears
    wrong = made_up_calibration(tmp_path / "cal", weights, linears, prefix_shape=(5, LAYERS, 2, 1, 2, 9))
    with pytest.raises(CheckpointError, match=r"prefix has shape \[5, 3, 2, 1, 2, 9\]"):
        plan_export(weights, load_recipe("cpu-w8a8"), None, wrong)
