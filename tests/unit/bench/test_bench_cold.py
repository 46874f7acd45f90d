"""The first frame of a fresh process: what it tells, and what it becomes in a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from judo_edge.bench import cold
from judo_edge.bench.cold import ColdProcesses, FirstFrame, Request, first_frame
from judo_edge.bench.counting import PassKind
from judo_edge.bench.session import Plan, run_bench
from judo_edge.bench.sources import DrawnParts
from judo_edge.bench.workloads import Slot, Workload
from judo_edge.bundle import Bundle
from judo_edge.core import Decision, EventKind
from judo_edge.errors import EngineError
from judo_edge.runtime import engines
from tests.scripted import GOOD, ids_of

PARTS = DrawnParts(["board"], 0)
STAGES = ("start", "open bundle", "open engine", "prepare", "load", "align", "patches", "vision")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Let the fresh process be this one, over the engine that writes given replies; return what it was asked."""
    seen: list[Request] = []

    def first(self: ColdProcesses, request: Request) -> FirstFrame:
        seen.append(request)
        return FirstFrame.model_validate_json(first_frame(request).model_dump_json())

    monkeypatch.setitem(engines._ENGINES, "onnxruntime", ("tests.scripted", "engine_from_bundle", ""))
    monkeypatch.setattr(ColdProcesses, "_first", first)
    return seen


def test_a_first_frame_counts_from_the_request(bundle: Bundle, requests: list[Request]) -> None:
    found = ColdProcesses(bundle.folder, "onnxruntime", 1).look(PARTS.shot(Slot(0, 0, False, 0)), "off")
    (inspection,), verdict = found.looked.inspections, found.looked.inspections[0].verdict
    assert inspection.ids == tuple(ids_of(GOOD)) and verdict.decision is Decision.OK
    assert tuple(verdict.timing.seconds)[: len(STAGES)] == STAGES
    assert verdict.timing.total <= found.looked.seconds
    assert found.looked.work.num_images == 2 and found.looked.work.passes[0].kind is PassKind.PREFILL
    assert found.looked.events[0][-1].kind is EventKind.VERDICT and found.peak_rss_bytes > 1e6
    assert requests[0].drafts == "off" and not requests[0].store.exists()


def test_a_cold_bench_compares_drafts_in_processes_of_their_own(bundle: Bundle, requests: list[Request]) -> None:
    plan = Plan(Workload.COLD_START, PARTS, "drawn", seed=0, rounds=2, warm_up=1)
    report = run_bench([bundle, bundle], plan, lambda done: None)
    asked = [request.drafts for request in requests]
    assert asked == ["on", "off"] * 2 + ["off", "on"] * 2 + ["on", "off"] * 2
    assert len({request.store for request in requests}) == 12
    row = report.rows[1]
    assert row.latency.count == 2 and row.limit is None and report.limit_ratio is None and row.limit_parts == 0
    assert row.equality.equal == row.equality.compared == 2 and row.peak_rss_bytes
    assert row.vision_passes_per_part == 2 and tuple(row.stages)[: len(STAGES)] == STAGES


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    missing = ColdProcesses(tmp_path / "nowhere", "onnxruntime", 1)
    with pytest.raises(EngineError, match=r"a fresh process ended with 1: .*nowhere is not a folder"):
        missing.look(PARTS.shot(Slot(0, 0, False, 0)), "on")


def test_the_answer_is_the_last_line(
    bundle: Bundle, requests: list[Request], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ColdProcesses, "_first", lambda self, request: _through_main(request, capsys))
        found = ColdProcesses(bundle.folder, "onnxruntime", 1).look(PARTS.shot(Slot(0, 0, False, 0)), "on")
    assert found.looked.inspections[0].ids == tuple(ids_of(GOOD))


def _through_main(request: Request, capsys: pytest.CaptureFixture[str]) -> FirstFrame:
    assert cold.main([request.model_dump_json()]) == 0
    return FirstFrame.model_validate_json(capsys.readouterr().out.splitlines()[-1])
