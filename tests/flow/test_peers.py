"""Rivals write what judo-edge writes: the same checkpoint, prompt and photos, in one run.

Rivals with a Python of their own are named by environment variables; without them these tests say what they lack.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import complete_checkpoint

torch = pytest.importorskip("torch", reason="needs the extra export")
from judo_edge import cli
from judo_edge.peerfigures import NANO, main

PYTHONS = {
    "openvino": "JUDO_EDGE_PEER_OPENVINO",
    "openvino-export": "JUDO_EDGE_PEER_OPENVINO_EXPORT",
    "llamacpp": "JUDO_EDGE_PEER_LLAMACPP",
}
"""Key of --peer-python -> environment variable that holds its path."""


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run the comparison and return the rows of its last line by name."""
    assert main(["--threads", "1", *arguments]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    return {row["name"]: row for row in json.loads(last)["rows"]}


def pythons(*keys: str) -> list[str]:
    """Return the options that name the rivals' Pythons; skips when one is not given."""
    missing = [PYTHONS[key] for key in keys if not os.environ.get(PYTHONS[key])]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: paths of Pythons that have the rival")
    return [option for key in keys for option in ("--peer-python", f"{key}={os.environ[PYTHONS[key]]}")]


@pytest.mark.slow
@pytest.mark.parametrize("order", ["query-first", "normal-first"])
def test_transformers_writes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], order: str) -> None:
    checkpoint = complete_checkpoint(tmp_path / "tiny", image_size=56, seed=3)
    where = ("--checkpoint", str(checkpoint), "--work", str(tmp_path / "work"), "--order", order, "--defects", "1")
    found = rows(capsys, *where, "--peers", "transformers-fp32", "--frames", "3", "--max-new-tokens", "16")
    peer, ours = found["transformers-fp32"], found["judo-edge-cpu-fp32"]
    assert peer["problem"] == "" and (peer["equal"], peer["frames"]) == (3, 3)
    assert peer["tokens"] == ours["tokens"] and peer["p50_ms"] > peer["first_token_p50_ms"] > 0
    assert set(peer["versions"]) == {"torch", "transformers", "pillow"} and peer["peak_mb"] > 100


@pytest.mark.slow
def test_openvino_writes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = pythons("openvino", "openvino-export")
    names = "openvino-fp32,openvino-fp32+cache,openvino-fp32+cache+lookup"
    found = rows(capsys, *given, "--work", str(tmp_path), "--peers", names, "--frames", "3", "--order", "normal-first")
    for name in names.split(","):
        assert found[name]["problem"] == "" and found[name]["equal"] == 3, found[name]


@pytest.mark.slow
def test_llamacpp_writes_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = pythons("llamacpp")
    names = "llamacpp-fp32,llamacpp-fp32+cache,llamacpp-fp32+cache+drafts,llamacpp-q8_0+cache"
    found = rows(capsys, *given, "--work", str(tmp_path), "--peers", names, "--frames", "3", "--order", "normal-first")
    for name in names.split(","):
        assert found[name]["problem"] == "", found[name]
    assert found["llamacpp-fp32"]["equal"] == found["llamacpp-fp32+cache+drafts"]["equal"] == 3
    assert found["llamacpp-fp32+cache"]["reused"].startswith("91 of 191"), "the reference photo is kept"
    assert found["llamacpp-fp32"]["reused"].startswith("0 of 191")


def test_a_rival_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--checkpoint", str(NANO), "--work", str(tmp_path), "--frames", "1")
    missing = ("--peers", "llamacpp-q8_0", "--peer-python", f"llamacpp={tmp_path / 'python'}")
    assert main(["--threads", "1", *arguments, *missing]) == 0
    out = capsys.readouterr().out
    assert "llamacpp-q8_0: " in out and "does not run" in out
    assert main(["--peer-python", "llamacpp"]) == 2
    assert "wanted: KEY=PATH" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_asks_a_rival_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, report = tmp_path / "bundle", tmp_path / "report.json"
    assert cli.main(["export", "judo-nano", "--recipe", "cpu-fp32", "--out", str(bundle)]) == 0
    arguments = ["bench", str(bundle), "--frames", "3", "--warm-up", "1", "--threads", "1", "--json", str(report)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        rivals = ["--peers", "transformers-fp32", "--checkpoint", str(NANO)]
        assert cli.main([*arguments, *rivals]) == 0
    content = json.loads(report.read_text())
    assert content["peers"]["transformers-fp32"]["count"] == 3 == content["peers_equal"]["transformers-fp32"]
    assert content["speedup_vs_best_peer"] > 0
    assert cli.main([*arguments, "--force", "--peers", "transformers-fp32"]) == 2
    assert "give --checkpoint" in capsys.readouterr().err
