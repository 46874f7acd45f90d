"""The lines that a station's processes log: a level and words; a name only where another package speaks."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from judo_edge.station.processes.__main__ import _Lines


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("judo_edge.station.hub.base", "WARNING 3 parts"),
        ("__main__", "WARNING 3 parts"),
        ("asyncua.server", "WARNING asyncua.server: 3 parts"),
        ("judo_edgeling", "WARNING judo_edgeling: 3 parts"),
    ],
)
def test_only_other_packages_are_named(name: str, wanted: str) -> None:
    record = logging.LogRecord(name, logging.WARNING, "", 0, "%d parts", (3,), None)
    assert _Lines().format(record) == wanted


def test_a_wrong_file_is_one_line_that_begins_with_its_level(tmp_path) -> None:
    path = tmp_path / "station.toml"
    path.write_text("[station]\n")
    command = (sys.executable, "-m", "judo_edge.station.processes", "hub", "--config", path, "--run-folder", tmp_path)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"ERROR {path}: key 'station.name' is missing")
    assert len(done.stderr.splitlines()) == 1
