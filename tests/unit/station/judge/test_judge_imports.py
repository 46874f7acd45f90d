"""The inspector's process starts with what it needs and no more."""

from __future__ import annotations

import subprocess
import sys

LATER = ("torch", "onnx", "onnxruntime", "asyncua", "fastapi", "paho", "model_signing", "cryptography", "sigstore")


def test_import_of_the_process_loads_no_engine_and_no_facade() -> None:
    code = f"import sys, judo_edge.station.processes.inspector; print(*sorted(set({LATER!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
