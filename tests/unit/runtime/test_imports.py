"""What a device must not need is not loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "transformers", "onnx", "onnxscript", "onnx_ir", "asyncua", "peft", "safetensors"),
    *("fastapi", "harvesters", "genicam", "gi"),
    *("tensorrt", "tensorrt_rtx", "cuda", "pycuda", "cupy"),
)


@pytest.mark.parametrize(
    "module",
    [
        "judo_edge.runtime",
        "judo_edge.runtime.calibrating",
        "judo_edge.runtime.decisions",
        "judo_edge.runtime.sources.settings",
        "judo_edge.evaluate",
        "judo_edge.cli",
    ],
)
def test_import_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & sys.modules.keys()))".replace(
        repr(HEAVY), f"set({HEAVY!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_import_of_the_runtime_opens_no_engine() -> None:
    code = "import sys, judo_edge.runtime; print('onnxruntime' in sys.modules, 'jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
