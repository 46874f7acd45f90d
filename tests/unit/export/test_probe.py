"""The cell probe in a bundle: what the graphs compute in every form, what is refused, what names it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `export` (torch)")

from safetensors.numpy import save_file

from judo_edge.bundle import info_rows, open_bundle
from judo_edge.core import Floats, Ints
from judo_edge.errors import CheckpointError, ConfigError, OutputError
from judo_edge.export.graphs import GraphForm, ProbeForm
from judo_edge.export.graphs.spec import PROBE_BIAS, PROBE_WEIGHT
from judo_edge.export.pipeline import ExportProgress, export_bundle, export_order, preflight
from judo_edge.export.resume import remaining_note
from judo_edge.runtime.engines import engine_from_bundle
from tests.checkpoints import complete_checkpoint
from tests.engines import FORMS, SHAPE, form_bundle, form_id, probe_tensors, random_prompt
from tests.tiny import tiny_model
from tests.traced_once import graphs_traced_once

HIDDEN, LAYERS, VALUES = 32, 2, 4
CASES = [replace(form, probe=ProbeForm(tap, VALUES)) for form, tap in zip(FORMS, (1, 2, 2, 3, 3, 3), strict=True)]
"""Taps inside a segment, at its end and in the second one."""


def reference(form: GraphForm, embeds: Floats, positions: Ints) -> Floats:
    """Compute the probe (1, S, values) on transformers' hidden states."""
    assert form.probe is not None
    tensors = {name: torch.from_numpy(value) for name, value in probe_tensors(form, SHAPE.hidden_size).items()}
    with torch.no_grad():
        text = tiny_model(0, SHAPE).model.language_model
        states = text(
            inputs_embeds=torch.from_numpy(embeds), position_ids=torch.from_numpy(positions), output_hidden_states=True
        ).hidden_states
        stream = states[form.probe.tap]
        normed = torch.nn.functional.rms_norm(stream, stream.shape[-1:])
        return torch.nn.functional.linear(normed, tensors[PROBE_WEIGHT], tensors[PROBE_BIAS]).numpy()


@pytest.mark.parametrize("form", CASES, ids=form_id)
def test_cells_are_the_probe_on_the_tapped_stream(form: GraphForm, tmp_path: Path) -> None:
    embeds, positions = random_prompt(9)
    expected = reference(form, embeds, positions)
    tolerance = 1e-4 if form.dtype == "float32" else 2e-2
    with engine_from_bundle(form_bundle(tmp_path, form)) as engine:
        engine.start(12)
        whole = engine.advance(embeds, positions, np.array([8])).cells
        assert whole is not None
        np.testing.assert_allclose(whole, expected, atol=tolerance)
        engine.rewind(6)
        step = engine.advance(embeds[:, 6:7], positions[:, :, 6:7], np.array([0])).cells
        assert step is not None
        np.testing.assert_allclose(step, expected[:, 6:7], atol=tolerance)


@pytest.mark.parametrize("form", [CASES[0], CASES[3]], ids=form_id)
def test_logits_are_those_without_a_probe(form: GraphForm, tmp_path: Path) -> None:
    """To the last bit: the output must not keep ONNX Runtime from fusing the layers as before."""
    embeds, positions = random_prompt(9)
    found = []
    for number, each in enumerate((form, replace(form, probe=None))):
        with engine_from_bundle(form_bundle(tmp_path / str(number), each)) as engine:
            engine.start(12)
            decoded = engine.advance(embeds, positions, np.arange(9))
            found.append(decoded.logits.copy())
    assert decoded.cells is None
    assert np.array_equal(*found)


@pytest.mark.parametrize("form", [*FORMS[:2], FORMS[3]], ids=form_id)
def test_the_layers_norms_stay_fused(form: GraphForm, tmp_path: Path) -> None:
    with_probe, without = (
        optimized(form_bundle(tmp_path / name, each).folder / "decoder.onnx")
        for name, each in (("with", replace(form, head_parts=1, probe=ProbeForm(2, 4))), ("without", plain(form)))
    )
    fused = {"SimplifiedLayerNormalization", "RMSNormalization"}
    assert sum(without[kind] for kind in fused) == sum(with_probe[kind] for kind in fused) > 0
    assert with_probe["MatMul"] == without["MatMul"] + 1


def plain(form: GraphForm) -> GraphForm:
    return replace(form, head_parts=1)


def optimized(path: Path) -> Counter[str]:
    """Count the operators that ONNX Runtime makes of a graph."""
    import onnx
    import onnxruntime as ort

    options, out = ort.SessionOptions(), path.with_name("optimized.onnx")
    options.optimized_model_filepath, options.log_severity_level = str(out), 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(out, load_external_data=False).graph.node)


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, graphs_traced_once():
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_checkpoint(tmp_path_factory.mktemp("ck") / "tiny", layers=LAYERS)


def probe_file(path: Path, rows: int = VALUES, width: int = HIDDEN, seed: int = 0, **metadata: str) -> Path:
    rng = np.random.default_rng(seed)
    tensors = {"weight": rng.standard_normal((rows, width)).astype(np.float32), "bias": np.zeros(rows, np.float32)}
    save_file(tensors, path, metadata={"tap": "1", "normalisation": "rms", "image": "second", **metadata})
    return path


def test_a_bundle_says_what_its_probe_is(checkpoint: Path, tmp_path: Path) -> None:
    file = probe_file(tmp_path / "mine.safetensors")
    bundle = open_bundle(export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path / "out", probe=file))
    probe, decision = bundle.manifest.probe, bundle.manifest.decisions[PROBE_WEIGHT]
    assert probe and (probe.tap, probe.values, probe.source) == (1, VALUES, "mine.safetensors")
    assert (decision.form, decision.stored_in) == ("float32", "decoder.onnx.data")
    assert bundle.manifest.graphs["decoder"].outputs["cells"].shape == ("B", "S", VALUES)
    assert any(name == "cell probe" for name, _ in info_rows(bundle))
    plain = open_bundle(export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path / "plain"))
    assert plain.manifest.probe is None and bundle.manifest.source == plain.manifest.source


def test_the_checkpoints_own_probe_is_exported_unless_it_is_not_wanted(checkpoint: Path, tmp_path: Path) -> None:
    own = probe_file(checkpoint / "cell_probe.safetensors")
    try:
        assert export_order(checkpoint, out=tmp_path / "out").probe == own
        assert export_order(checkpoint, out=tmp_path / "out", no_probe=True).probe is None
        assert export_order(checkpoint, out=tmp_path / "out", probe=tmp_path / "x").probe == tmp_path / "x"
        with pytest.raises(ConfigError, match=r"--no-probe"):
            export_order(checkpoint, out=tmp_path / "out", probe=tmp_path / "x", no_probe=True)
    finally:
        own.unlink()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"width": 48}, r"weight has shape \[4, 48\]; wanted: \[values, 32\]"),
        ({"rows": 3}, "3 values for each token; wanted: a square number"),
        ({"tap": "3"}, "tap '3'; wanted: 1 to 2"),
        ({"tap": "0"}, "tap '0'; wanted: 1 to 2"),
        ({"tap": "two"}, "tap 'two'"),
        ({"normalisation": "layer"}, "normalisation 'layer'; wanted: 'rms'"),
        ({"image": "first"}, "image 'first'; wanted: 'second'"),
        ({"checkpoint_sha256": "0" * 64, "source": "other"}, r"fitted on other weights \(other\)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_probe_that_does_not_fit_is_refused_first(
    changes: dict[str, Any], match: str, checkpoint: Path, tmp_path: Path
) -> None:
    file = probe_file(tmp_path / "probe.safetensors", **changes)
    with pytest.raises(CheckpointError, match=match):
        export_bundle(checkpoint, recipe="cpu-fp32", out=tmp_path / "out", probe=file)
    assert [path.name for path in tmp_path.iterdir()] == ["probe.safetensors"]


def test_other_tensors_and_missing_files_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "probe.safetensors"
    save_file({"weight": np.zeros((4, HIDDEN), np.float32)}, file, metadata={"tap": "1"})
    with pytest.raises(CheckpointError, match="wanted: weight and bias"):
        export_bundle(checkpoint, recipe="cpu-fp32", out=tmp_path / "out", probe=file)
    with pytest.raises(CheckpointError, match=r"missing\.safetensors"):
        export_bundle(checkpoint, recipe="cpu-fp32", out=tmp_path / "out", probe=tmp_path / "missing.safetensors")


def test_an_unfinished_export_goes_on_with_its_own_probe_alone(checkpoint: Path, tmp_path: Path) -> None:
    def stop(state: ExportProgress) -> None:
        if state.step == "embedding":
            raise KeyboardInterrupt

    one, other = (probe_file(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (0, 1))
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        export_bundle(checkpoint, recipe="cpu-fp32", out=out, probe=one, progress=stop)
    assert remaining_note(out)
    for wrong in (other, None):
        with pytest.raises(OutputError, match="unfinished export with other cell probe"):
            export_bundle(checkpoint, recipe="cpu-fp32", out=out, probe=wrong)
    probe = open_bundle(export_bundle(checkpoint, recipe="cpu-fp32", out=out, probe=one)).manifest.probe
    assert probe and probe.source == "0.safetensors"


def test_preflight_counts_the_probe(checkpoint: Path, tmp_path: Path) -> None:
    file = probe_file(tmp_path / "probe.safetensors")
    order = export_order(checkpoint, recipe="cpu-fp32", out=tmp_path / "out", probe=file)
    needed = preflight(order)
    bundle = open_bundle(export_bundle(checkpoint, recipe="cpu-fp32", out=tmp_path / "out", probe=file))
    assert needed.files["decoder.onnx.data"] == bundle.manifest.files["decoder.onnx.data"].bytes
