"""judo-edge build end to end with TensorRT for RTX and no GPU: plans, resuming, refusals; a builder that dies."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from judo_edge.bundle import Bundle, open_bundle
from judo_edge.cli import main
from judo_edge.errors import PlanError
from judo_edge.export.pipeline import export_bundle
from judo_edge.export.tensorrt import (
    BuildSettings,
    Built,
    LayerReport,
    Step,
    build_plans,
    build_steps,
    estimate_from_weights,
    process,
    run_job,
)
from judo_edge.plans import Environment, PlanStore, key_of_user
from tests.checkpoints import complete_checkpoint
from tests.tiny import TinyShape

RTX = Environment(
    backend="tensorrt_rtx", version="1.7.1.116", compute_capability="8.6", driver="", platform="linux-x86_64"
)
ORIN = Environment(
    backend="tensorrt", version="10.3.0", compute_capability="8.7", driver="12.6", platform="jetson-36.4.3"
)
AHEAD = BuildSettings(max_tokens=256, ahead=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield folder


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    """Export a tiny model in the form of JetPack 6.2, one layer to a graph."""
    checkpoint = complete_checkpoint(folder / "tiny", shape=TinyShape(vision_depth=1, full_attention_blocks=()))
    recipe = folder / "pieces.toml"
    text = 'name = "pieces"\nengine = "tensorrt"\ndtype = "float16"\ndecoder_linears = "int8-channel"\n'
    text += 'lm_head = "float"\nvision_linears = "float"\nembedding = "float16"\nlayers_per_segment = 1\n'
    recipe.write_text(text)
    return open_bundle(export_bundle(checkpoint, [], recipe, folder / "bundle"))


def steps_of(bundle: Bundle, folder: Path, environment: Environment = RTX, force: bool = False) -> tuple[Step, ...]:
    settings = BuildSettings(AHEAD.max_tokens, ahead=environment is RTX, force=force)
    return build_steps(bundle, environment, PlanStore(folder / "plans", key_of_user()), settings)


def test_steps_follow_the_manifest(bundle: Bundle, folder: Path) -> None:
    steps = steps_of(bundle, folder)
    assert [step.job.header.graph for step in steps] == ["vision", "layers-00", "layers-01", "head-0"]
    assert {step.job.header.bundle for step in steps} == {bundle.content_digest}
    assert [len(step.job.shapes) for step in steps] == [1, 3, 3, 3] and not any(step.kept for step in steps)


@pytest.mark.slow
def test_an_interrupted_build_goes_on_and_a_changed_plan_is_made_again(bundle: Bundle, folder: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra rtx)")
    steps = steps_of(bundle, folder)
    said: list[str] = []
    first = next(build_plans(steps, lambda graph, step: said.append(graph)))  # and no further: an interruption
    assert (first.graph, first.kept) == ("vision", False) and first.peak_bytes > 1e8 and set(said) == {"vision"}
    assert [step.kept for step in steps_of(bundle, folder)] == [True, False, False, False]
    built = list(build_plans(steps_of(bundle, folder)))
    assert [item.kept for item in built] == [True, False, False, False]
    report = LayerReport.model_validate_json(steps[1].job.report_path.read_bytes())
    assert report.graph == "layers-00" and len(report.kernels) == built[1].kernels > 5
    with steps[2].job.plan_path.open("r+b") as stream:
        stream.seek(500)
        stream.write(b"tampered")
    assert [step.kept for step in steps_of(bundle, folder)] == [True, True, False, True]
    assert not any(step.kept for step in steps_of(bundle, folder, force=True))
    assert open_bundle(bundle.folder).digest == bundle.digest, "nothing was written into the bundle"


def test_the_command_says_what_it_will_take(bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra rtx)")
    command = ["build", str(bundle.folder), "--backend", "tensorrt_rtx", "--out", str(folder / "dry")]
    assert main([*command, "--compute-capability", "8.6", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "layers-01" in shown and "to build" in shown and "tensorrt_rtx" in shown and not (folder / "dry").exists()
    assert main([*command, "--compute-capability", "8.7", "--dry-run"]) == 2
    assert "no supported environment" in capsys.readouterr().err


def test_plans_stay_out_of_the_bundle(bundle: Bundle) -> None:
    store = PlanStore(bundle.folder / "plans", b"k" * 32)
    with pytest.raises(PlanError, match="lies in the bundle"):
        build_steps(bundle, RTX, store, AHEAD)


def test_a_graph_that_the_builder_cannot_read_says_why(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra rtx)")
    step = steps_of(bundle, folder)[0]
    broken = shutil.copy(step.job.onnx, tmp_path / "vision.onnx")  # without its weights
    with pytest.raises(PlanError, match="tensorrt_rtx cannot read vision"):
        run_job(step.job.model_copy(update={"onnx": Path(broken), "store": tmp_path / "plans"}))
    assert not list((tmp_path / "plans").rglob("*.plan*"))


def test_a_builder_that_is_killed_names_memory(bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends itself stands in for one that the system ends for lack of memory."""
    text = f"import os, signal; os.kill(os.getpid(), signal.{signal.SIGKILL.name})"
    real = process.subprocess.Popen
    monkeypatch.setattr(process.subprocess, "Popen", lambda command, **rest: real([command[0], "-c", text], **rest))
    with pytest.raises(PlanError, match=r"layers-00 was ended by SIGKILL.*memory.*--dry-run"):
        run_job(steps_of(bundle, folder, ORIN)[1].job)


def test_estimates() -> None:
    """A 7B decoder as seven-layer graphs of int8 on an Orin NX 16 GB with JetPack 6.2."""
    weights = 7 * 233_000_000
    orin, rtx = (estimate_from_weights(weights, 1 << 30, environment) for environment in (ORIN, RTX))
    assert rtx.device == 0 and 4e9 < rtx.peak < 6e9
    assert orin.shared and orin.host > rtx.host and orin.peak == orin.host + weights + (1 << 30) and orin.peak < 11e9


def test_kept_plans_are_not_built(bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Built:
        raise AssertionError("nothing is to be built")

    monkeypatch.setattr("judo_edge.export.tensorrt.build.run_job", refused)
    store = PlanStore(tmp := folder / "kept", key_of_user())
    for step in build_steps(bundle, RTX, store, AHEAD):
        store.write(step.job.header, b"plan")
    steps = build_steps(bundle, RTX, PlanStore(tmp, key_of_user()), AHEAD)
    assert [item.kept for item in build_plans(steps)] == [True] * 4
