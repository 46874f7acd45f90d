"""`judo-edge calibrate`: the command from folders to a folder, its refusals on one line, its settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from judo_edge.calibration import open_calibration
from judo_edge.calibration.file import Settings
from judo_edge.cli import main
from judo_edge.config import model_from_toml
from tests.unit.calibration.photos import write_items

SHIPPED = Path(__file__).parents[3] / "calibration" / "settings.toml"


def command(checkpoint: Path, items: Path, out: Path, *more: str) -> int:
    return main(["calibrate", str(checkpoint), "--items", str(items), "--out", str(out), "--min-samples", "8", *more])


def test_writes_a_calibration_and_shows_the_worst_parts(
    checkpoint: Path, items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("seed = 3\nsearch_tokens = 30\nerror_tokens = 20\n")
    out = tmp_path / "out"
    assert command(checkpoint, items, out, "--settings", str(settings), "--gram", "--samples", "8") == 0
    file = open_calibration(out).file
    assert file.provenance.settings.seed == 3 and file.provenance.settings.gram
    assert len(file.provenance.samples) == 8 and file.provenance.source.checkpoint == "tiny"
    shown = capsys.readouterr()
    assert "model.layers.1" in shown.out and "int8-static" in shown.out and "sensitivity.svg" in shown.out
    assert "3 items left out: more than --samples" in shown.err


def test_an_existing_output_is_named_before_anything_is_read(
    items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    assert command(Path("no such checkpoint"), items, tmp_path / "out") == 2
    assert "exists already" in capsys.readouterr().err


def test_a_set_that_is_refused_leaves_nothing_behind(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = write_items(tmp_path, 9, 0)
    before = sorted(tmp_path.iterdir())
    assert command(checkpoint, items, tmp_path / "out") == 2
    line = capsys.readouterr().err.strip()
    assert "all 9 train items are good" in line and "\n" not in line
    assert sorted(tmp_path.iterdir()) == before


def test_an_unknown_setting_is_refused(
    checkpoint: Path, items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("tokens = 3\n")
    assert command(checkpoint, items, tmp_path / "out", "--settings", str(settings)) == 2
    assert "unknown key 'tokens'" in capsys.readouterr().err


def test_the_shipped_settings_are_the_defaults() -> None:
    assert model_from_toml(Settings, SHIPPED) == Settings()
    stated = {line.split(" = ")[0] for line in SHIPPED.read_text().splitlines() if " = " in line and line[0] != "#"}
    assert stated == set(Settings.model_fields)
