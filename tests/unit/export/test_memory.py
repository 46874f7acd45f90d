"""The measuring tool works on a small checkpoint, and the export holds far less than the weights it writes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from judo_edge.bundle import open_bundle
from judo_edge.export.forms import base
from judo_edge.export.pipeline import ExportProgress, export_bundle
from tests.tiny import TinyShape
from tests.tools.random_checkpoint import SHAPES, measured_export, write_random_checkpoint

WIDE = TinyShape(vocab_size=40_000, hidden_size=128, intermediate_size=256, mrope_section=(4, 6, 6))
"""A head and a table of 20 MB each in float32."""


def test_numpy_memory_stays_at_a_few_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "CHUNK_BYTES", 1 << 20)
    checkpoint = write_random_checkpoint(tmp_path / "ck", WIDE, shards=3, image_size=56)

    def start(item: ExportProgress) -> None:
        if item.step == "vision" and not tracemalloc.is_tracing():  # after tracing, with the first weights
            tracemalloc.start()

    try:
        out = export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path / "out", progress=start)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    written = sum(item.bytes for item in open_bundle(out).manifest.files.values())
    assert written > 15e6 and 1e6 < peak < 8e6, (written, peak)


@pytest.mark.slow
def test_measuring_tool_reports_the_peak(tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "ck", SHAPES["tiny"], shards=2, image_size=56)
    peak = measured_export(checkpoint, "cpu-int8", [])
    assert peak.bundle_bytes > 100_000 and peak.checkpoint_bytes > 100_000
    assert 0 < peak.libraries_rss_bytes < 2 * peak.peak_rss_bytes
