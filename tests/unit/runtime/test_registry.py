"""Engines by name: from the command line, and what is said when one cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from judo_edge.cli import main
from judo_edge.errors import ConfigError, DependencyError
from judo_edge.runtime import engine_from_bundle, engine_names
from judo_edge.runtime import engines as registry
from tests.scripted import save_photo, scripted_bundle


def inspect(folder: Path, *options: str) -> int:
    bundle = scripted_bundle(folder / "bundle")
    save_photo(folder / "photos" / "a.png", 90)
    good = save_photo(folder / "good.png", 10)
    command = ["inspect", str(bundle.folder), "--part", "lid", "--images", str(folder / "photos")]
    return main([*command, "--reference", str(good), "--out", str(folder / "out"), *options])


def test_engines_are_listed_by_name() -> None:
    assert engine_names() == ("onnxruntime", "onnxruntime-cuda", "openvino", "tensorrt")


def test_named_engine_inspects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._ENGINES, "tensorrt", ("tests.scripted", "engine_from_bundle", ""))
    assert inspect(tmp_path, "--engine", "tensorrt") == 0


def test_unknown_engine_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(tmp_path, "--engine", "nothing") == 2
    assert "onnxruntime, onnxruntime-cuda, openvino, tensorrt" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        engine_from_bundle(scripted_bundle(tmp_path / "other"), "nothing")


def test_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._ENGINES, "tensorrt", ("tests.no_such_module", "engine_from_bundle", "judo-edge[x]"))
    with pytest.raises(DependencyError, match=r"tests\.no_such_module.*pip install judo-edge\[x\]"):
        engine_from_bundle(scripted_bundle(tmp_path / "b"), "tensorrt")
