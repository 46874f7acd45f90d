"""What a dry run says is what an export then takes: disk by file exactly, memory as a bound."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from judo_edge.cli import main
from judo_edge.errors import ConfigError, OutputError
from judo_edge.export import preflight
from judo_edge.export.pipeline import export, export_bundle, export_order
from judo_edge.export.pipeline import preflight as preflight_export
from judo_edge.export.preflight import Preflight, check_room
from tests.checkpoints import complete_checkpoint
from tests.peak import PEAK_BYTES
from tests.tiny import TinyShape
from tests.tools.random_checkpoint import write_random_adapter, write_random_checkpoint
from tests.traced_once import graphs_traced_once

RECIPES = ["cpu-fp32", "cpu-int8", "cpu-int4", "jetson-agx-orin-int8", "jetson-orin-nx-int4"]
ROOM = Preflight({"a": 100, "manifest.json": 20}, 0, 1 << 40, 50, 10, 40)

WIDE = TinyShape(
    vocab_size=60_000, hidden_size=512, intermediate_size=2048, mrope_section=(16, 24, 24), tied=True, layers=3
)
"""A table of 120 MB in float32: what an export may not hold whole."""

CHILD = f"""
import json, sys
from judo_edge.export.pipeline import export, export_order, preflight
order = export_order(sys.argv[1], sys.argv[2:3], sys.argv[4], sys.argv[3])
needed = preflight(order)
export(order)
print(json.dumps([needed.memory, {PEAK_BYTES}, needed.held]))
"""


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    with graphs_traced_once():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_checkpoint(tmp_path_factory.mktemp("ck") / "tiny")


@pytest.mark.parametrize("recipe", RECIPES)
def test_disk_by_file_is_what_the_bundle_takes(checkpoint: Path, tmp_path: Path, recipe: str) -> None:
    order = export_order(checkpoint, recipe=recipe, out=tmp_path / "out")
    needed = preflight_export(order)
    assert list(tmp_path.iterdir()) == []
    export(order)
    assert dict(needed.files) == {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert needed.seconds > 0 and needed.has_disk and needed.has_memory


@pytest.mark.slow
def test_memory_bounds_the_measured_peak(tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "ck", WIDE, shards=2, image_size=56)
    adapter = write_random_adapter(tmp_path / "adapter", WIDE, rank=8)
    command = [sys.executable, "-c", CHILD, checkpoint, adapter, tmp_path / "out", "cpu-int8"]
    said, measured, held = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert held < measured < said < 2 * measured, (held, measured, said)


def test_dry_run_prints_needs_and_writes_nothing(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(checkpoint), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for word in ("cpu-int8", "disk", "decoder.onnx.data", "memory", "time", "free"):
        assert word in printed
    assert list(tmp_path.iterdir()) == []


def test_unfinished_work_counts_as_room() -> None:
    needed = replace(ROOM, free_disk=preflight.MARGIN_BYTES + 20)
    assert not needed.has_disk and replace(needed, written=100).has_disk
    with pytest.raises(OutputError, match=r"has 0\.02 GB free; wanted: 0\.02 GB for out; do: free space"):
        check_room(needed, Path("out"), lambda _: None)


def test_short_memory_is_a_warning_before_anything_is_written() -> None:
    warned: list[str] = []
    check_room(ROOM, Path("out"), warned.append)
    assert not warned
    check_room(replace(ROOM, free_memory=39), Path("out"), warned.append)
    assert len(warned) == 1 and "memory" in warned[0]


def test_dialect_replaces_the_recipes(checkpoint: Path, tmp_path: Path) -> None:
    order = export_order(checkpoint, recipe="cpu-int8", out=tmp_path / "out", dialect="modern")
    assert order.recipe.dialect == "modern" and order.recipe.name == "cpu-int8"
    with pytest.raises(ConfigError, match="dialect"):
        export_order(checkpoint, recipe="cpu-int8", out=tmp_path / "out", dialect="ancient")


def test_existing_output_is_refused_by_a_dry_run_too(checkpoint: Path, tmp_path: Path) -> None:
    out = export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path / "out")
    with pytest.raises(OutputError, match="exists already"):
        export_order(checkpoint, recipe="cpu-int8", out=out)
