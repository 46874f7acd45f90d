"""Environments, the table of supported ones, and what a mismatch says."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from judo_edge.errors import DependencyError, PlanError
from judo_edge.plans import Environment, Gpu, check_environment, current_environment, current_platform, environment
from judo_edge.plans.rows import ROWS, version_from_text

ORIN = Environment(
    backend="tensorrt", version="10.3.0", compute_capability="8.7", driver="12.6", platform="jetson-36.4.3"
)
RTX = Environment(backend="tensorrt_rtx", version="1.7.1.116", compute_capability="8.6", platform="linux-x86_64")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "version", lambda package: "10.16.1.11")


def with_gpu(monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None) -> None:
    monkeypatch.setattr(environment, "gpu_of_driver", lambda: gpu)


@pytest.mark.parametrize(
    ("changes", "dialect", "row"),
    [
        ({}, "legacy", "JetPack 6.2 (Orin)"),
        ({"version": "10.13.3.9", "platform": "jetson-38.2", "compute_capability": "11.0"}, "legacy", "JetPack 7.0"),
        ({"version": "10.16.0", "platform": "jetson-39.1"}, "modern", "JetPack 7.2 "),
        ({"version": "11.4.1", "platform": "jetson-39.2"}, "legacy", "JetPack 7.2.2"),
        ({"version": "10.3.0.post1", "platform": "linux-x86_64", "compute_capability": "8.9"}, "legacy", "workstation"),
        ({"version": "11.4.0.106", "platform": "linux-x86_64", "compute_capability": "9.0"}, "modern", "workstation"),
    ],
)
def test_supported_environments_have_a_row(changes: dict[str, str], dialect: str, row: str) -> None:
    assert check_environment(ORIN.model_copy(update=changes), dialect, "").name.startswith(row)


@pytest.mark.parametrize(
    "changes",
    [
        {"compute_capability": "8.6"},  # no such Jetson
        {"version": "10.7.0"},  # not of this JetPack
        {"platform": "jetson-35.1"},
        {"version": "11.3.0", "platform": "jetson-39.2"},  # 11.0 to 11.4.0 do not support JetPack
        {"version": "12.0", "platform": "linux-x86_64", "compute_capability": "8.9"},
    ],
)
def test_others_are_refused_with_the_rows_and_the_command(changes: dict[str, str]) -> None:
    found = ORIN.model_copy(update=changes)
    with pytest.raises(PlanError) as caught:
        check_environment(found, "legacy", "judo-edge build B")
    assert str(found) in caught.value.found and "judo-edge build B" in caught.value.action
    assert all(row.name in caught.value.wanted for row in ROWS if row.backend == "tensorrt")
    assert "RTX" not in caught.value.wanted


def test_a_dialect_that_is_not_read_names_the_one_that_is() -> None:
    with pytest.raises(PlanError, match=r"JetPack 6\.2.*does not read modern.*dialect legacy"):
        check_environment(ORIN, "modern", "")


def test_rtx_names_a_gpu_that_is_not_here(monkeypatch: pytest.MonkeyPatch, installed: None) -> None:
    with_gpu(monkeypatch, None)
    made = current_environment("tensorrt_rtx", "8.9")
    assert (made.compute_capability, made.driver) == ("8.9", "")
    with pytest.raises(PlanError, match="--compute-capability"):
        current_environment("tensorrt_rtx")


def test_tensorrt_builds_where_it_runs(monkeypatch: pytest.MonkeyPatch, installed: None) -> None:
    with_gpu(monkeypatch, Gpu("8.7", "13.2"))
    made = current_environment("tensorrt")
    assert (made.compute_capability, made.driver) == ("8.7", "13.2")
    with pytest.raises(PlanError, match="only for the GPU it runs on"):
        current_environment("tensorrt", "8.9")
    with_gpu(monkeypatch, None)
    with pytest.raises(PlanError, match="no NVIDIA driver"):
        current_environment("tensorrt", "8.7")


def test_a_plan_of_rtx_does_not_depend_on_the_driver(monkeypatch: pytest.MonkeyPatch, installed: None) -> None:
    with_gpu(monkeypatch, None)
    ahead = current_environment("tensorrt_rtx", "8.9")
    with_gpu(monkeypatch, Gpu("8.9", "13.0"))
    assert current_environment("tensorrt_rtx") == ahead


def test_a_missing_builder_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(environment, "version", missing)
    with pytest.raises(DependencyError, match=r"judo-edge\[tensorrt\]"):
        current_environment("tensorrt")


def test_keys_differ_in_every_field() -> None:
    changes = [{"version": "10.4.0"}, {"compute_capability": "8.6"}, {"driver": "12.7"}, {"platform": "jetson-36.5"}]
    keys = {ORIN.key, RTX.key, *(ORIN.model_copy(update=change).key for change in changes)}
    assert len(keys) == len(changes) + 2 and all("/" not in key for key in keys)


def test_platforms(tmp_path: Path) -> None:
    release = tmp_path / "nv_tegra_release"
    assert not current_platform(release).startswith("jetson")
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    assert current_platform(release) == "jetson-36.4.3"


def test_versions() -> None:
    assert version_from_text("10.13.3.9.post1") == (10, 13, 3, 9) and version_from_text("1.7.1") == (1, 7, 1)
