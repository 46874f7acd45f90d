"""`judo-edge bench` as a user types it: over an engine that writes given replies, then over JUDO-nano."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from judo_edge.bench.report import HEADLINE, Report
from judo_edge.bundle import Bundle
from judo_edge.cli import main
from judo_edge.runtime import engines
from tests.scripted import BAD, GOOD, ScriptedEngine, ids_of, scripted_bundle


def lossy_engine(bundle: Bundle, threads: int) -> ScriptedEngine:
    """Write another reply every third time: with drafts and without never agree."""
    replies = cycle([GOOD, GOOD, BAD])
    return ScriptedEngine(lambda red: next(replies))


@pytest.fixture
def bench_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(engines._ENGINES, "onnxruntime", ("tests.scripted", "engine_from_bundle", ""))
    monkeypatch.setitem(engines._ENGINES, "tensorrt", ("tests.flow.test_bench", "lossy_engine", ""))
    scripted_bundle(tmp_path / "bundle")
    return tmp_path


def bench(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[Any, str]:
    """Run and return the JSON of the last line and all that was printed."""
    assert main(["bench", *arguments]) == code
    text = capsys.readouterr().out
    return json.loads(text.splitlines()[-1]), text


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["bench", "bundle", *arguments]) == 2
    text = capsys.readouterr().err.strip()
    assert len(text.splitlines()) == 1 and text.startswith("judo-edge: ")
    return text


def test_a_good_line(bench_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ("--plot", "p.svg", "--json", "r.json")
    content, text = bench(capsys, "bundle", "--frames", "20", "--warm-up", "2", "--drawn", "board", *files)
    assert tuple(content)[: len(HEADLINE)] == HEADLINE and content["rows"][0]["latency"]["count"] == 20
    assert content["passes_per_part"] == 1.0 and content["speedup_vs_best_peer"] is None
    assert "20 of 20 replies equal plain greedy token for token" in text
    assert "good-line: 20 photos, 1 at a time, drawn: board-0, seed 0; the first 2 moments left out" in text
    assert Report.model_validate_json(Path("r.json").read_text()) == Report.model_validate(content)
    assert ElementTree.fromstring(Path("p.svg").read_text()).tag.endswith("svg")


def test_bundles_side_by_side(bench_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, _ = bench(capsys, "bundle", "bundle", "--frames", "4", "--workload", "part-change")
    assert len(content["rows"]) == 2 and content["rows"][0]["peak_rss_bytes"] is None
    assert "board-0, machined-1, cast-2" in content["setting"]["source"] and content["setting"]["warm_up"] == 6


@pytest.mark.parametrize(("mode", "cameras", "metric"), [("single-stream", 1, "p90"), ("multi-stream", 8, "p99")])
def test_modes(bench_folder: Path, capsys: pytest.CaptureFixture[str], mode: str, cameras: int, metric: str) -> None:
    content, text = bench(capsys, "bundle", "--frames", "16", "--mode", mode, "--warm-up", "0")
    assert content["setting"]["cameras"] == cameras and content["rows"][0]["latency"]["count"] == 16 // cameras
    assert content["score"]["metric"] == metric and f"MLPerf-style {mode}" in text


def test_changed_replies_end_with_one(bench_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, text = bench(capsys, "bundle", "--frames", "3", "--engine", "tensorrt", "--warm-up", "0", code=1)
    assert content["rows"][0]["equality"]["equal"] == 0
    assert "0 of 3 replies equal plain greedy token for token; frame 000000: token" in text


def test_a_soak(bench_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, _ = bench(capsys, "bundle", "--soak", "--frames", "30", "--json", "soak.json")
    assert (content["frames"], content["lost"], content["event_violations"]) == (30, 0, 0)
    assert content["rss_slope_mb_per_1000"] is not None and json.loads(Path("soak.json").read_text()) == content


def test_a_prediction_from_a_report_or_assumptions(bench_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured, _ = bench(capsys, "bundle", "--frames", "2", "--warm-up", "0", "--json", "r.json")
    content, text = bench(capsys, "bundle", "--model", "agx-orin-64", "--from", "r.json")
    assert content["predicted"] is True and content["passes_per_part"] == measured["passes_per_part"] < len(
        ids_of(GOOD)
    )
    assert "Jetson AGX Orin 64 GB: predicted, not measured; passes measured on this bundle" in " ".join(text.split())
    content, text = bench(capsys, "bundle", "--model", "rtx-4090", "--assume", "prefill=80+30,tokens=31")
    assert content["passes_per_part"] == 1 and content["total_ms"] < content["greedy_ms"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--model", "tpu", "--assume", "prefill=9+1"), "device 'tpu'; wanted: one of agx-orin-64"),
        (("--model", "rtx-4090"), "a prediction without its parts; wanted: one bundle, --model DEVICE, and --from"),
        (("--assume", "prefill=9+1"), "a prediction without its parts"),
        (("--model", "rtx-4090", "--from", "none.json"), "none.json"),
        (("--drawn", "wheel"), "drawn kind 'wheel'; wanted: one of board"),
        (("--drawn", "board", "--items", "x.csv"), "--items and --drawn; wanted: one of them"),
        (("--items", "x.csv"), "x.csv: No such file or directory"),
        (("--workload", "part-change", "--drawn", "board"), "1 part number for the workload part-change"),
        (("--cameras", "2"), "--cameras in the mode latency; wanted: --mode multi-stream"),
        (("--mode", "multi-stream", "--workload", "cold-start"), "several cameras on a cold start"),
        (("--soak", "--workload", "cold-start"), "--soak with several bundles, a plot or cold starts"),
        (("--json", "bundle/profile.toml"), "bundle/profile.toml exists already"),
        (("--engine", "abacus"), "engine 'abacus'; wanted: one of"),
    ],
)
def test_refusals_are_one_line(
    bench_folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], found: str
) -> None:
    assert found in refusal(capsys, "--frames", "2", *arguments)


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="needs the extra `export` (torch)")
    from judo_edge.export.pipeline import export_bundle

    return export_bundle("judo-nano", [], "cpu-int8", tmp_path_factory.mktemp("bench") / "nano")


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["good-line", "bad-batch", "part-change"])
def test_nano_with_drafts_is_plain_greedy(nano: Path, capsys: pytest.CaptureFixture[str], workload: str) -> None:
    content, _ = bench(capsys, str(nano), "--frames", "6", "--warm-up", "1", "--workload", workload)
    (row,) = content["rows"]
    assert row["equality"]["equal"] == 6 and row["undecidable"] == 0 and row["num_event_violations"] == 0
    assert row["passes_per_part"] == sum(passes["per_part"] for passes in row["passes"].values())
    assert row["passes"]["prefill"]["per_part"] == 1 and row["limit"]["count"] == 6 and row["peak_rss_bytes"] > 5e7


@pytest.mark.slow
def test_nano_starts_cold_and_encodes_two_photos(nano: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, _ = bench(capsys, str(nano), "--frames", "1", "--warm-up", "0", "--workload", "cold-start")
    (row,) = content["rows"]
    assert row["equality"]["equal"] == 1 and row["vision_passes_per_part"] == 2 and content["limit_ratio"] is None
    assert {"start", "open bundle", "open engine"} <= set(row["stages"])


@pytest.mark.slow
def test_nano_runs_for_long(nano: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, _ = bench(capsys, str(nano), "--frames", "40", "--soak", "--workload", "bad-batch")
    assert (content["frames"], content["lost"], content["event_violations"], content["undecidable"]) == (40, 0, 0, 0)


@pytest.mark.slow
def test_nano_on_real_photos(nano: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = Path(__file__).parents[2] / ".." / "shared" / "data" / "cubes" / "items.csv"
    if not items.is_file():
        pytest.skip("no real photos in ../shared/data")
    content, _ = bench(capsys, str(nano), "--frames", "4", "--warm-up", "0", "--items", str(items))
    assert content["rows"][0]["equality"]["equal"] == 4 and content["setting"]["source"].count("cubes") == 2
