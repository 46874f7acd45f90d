"""The builder's code against the bindings of each TensorRT that a device may have: every name is there, types fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from judo_edge.export import tensorrt
from tests.tools.api_use import ApiUse, api_use_of
from tests.tools.bindings import VERSIONS, environment_of
from tests.tools.look import folder_of, names_in

BUILDER = Path(tensorrt.__file__).with_name("builder.py")
REMOVED = ("BuilderFlag.FP16", "BuilderFlag.INT8", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "IInt8Calibrator")
"""Names of 10.3 that 11 no longer has."""
TYPED = ("10.3.0", "10.16.1.11", "11.4.0.106")


@pytest.fixture(scope="module")
def use() -> ApiUse:
    return api_use_of(BUILDER)


def test_the_list_is_read_from_the_code(use: ApiUse) -> None:
    assert {"Builder", "OnnxParser.parse", "IOptimizationProfile.set_shape", "MemoryPoolType.WORKSPACE"} <= use.required
    assert {"IBuilderConfig.set_timing_cache", "ICudaEngine.create_engine_inspector", "Runtime"} <= use.required
    assert {"build_serialized_network_to_stream", "ComputeCapability", "set_compute_capability"} <= use.probed
    assert not any("ComputeCapability" in name or "IStreamWriter" in name for name in use.required)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_in_every_version(version: str, use: ApiUse) -> None:
    found_version, found = names_in("tensorrt_bindings", sorted(use.required), environment_of(folder_of(version)))
    assert found_version.split(".")[:2] == version.split(".")[:2]
    assert [name for name, there in found.items() if not there] == [] and len(found) > 30


def test_every_name_is_in_tensorrt_for_rtx(use: ApiUse) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra rtx)")
    names = [*use.required, "Builder.build_serialized_network_to_stream", "IStreamWriter", "ComputeCapability.SM86"]
    found = names_in("tensorrt_rtx", [*names, "IBuilderConfig.set_compute_capability"], dict(os.environ))[1]
    assert [name for name, there in found.items() if not there] == []


def test_the_look_tells_what_a_version_lacks() -> None:
    old = names_in("tensorrt_bindings", list(REMOVED), environment_of(folder_of("10.3.0")))[1]
    new = names_in("tensorrt_bindings", list(REMOVED), environment_of(folder_of("11.4.0.106")))[1]
    assert all(old.values()) and not any(new.values())


def types(file: Path, version: str) -> subprocess.CompletedProcess[str]:
    folder = folder_of(version)
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--no-warn-unused-ignores", str(file)]
    environment = {**os.environ, "MYPYPATH": str(folder / "typing"), "MYPY_CACHE_DIR": str(folder / "mypy")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=BUILDER.parents[3])


@pytest.mark.slow
@pytest.mark.parametrize("version", TYPED)
def test_types_fit(version: str) -> None:
    done = types(BUILDER, version)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_types_are_really_looked_at(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    text = "import tensorrt as trt\n\n\ndef f(b: trt.Builder) -> str:\n    return b.create_network(1)\n"
    wrong.write_text(text + "\n\nFLAG = trt.BuilderFlag.INT8\n")
    assert types(wrong, "10.3.0").stdout.count("error:") == 1
    assert types(wrong, "11.4.0.106").stdout.count("error:") == 2
