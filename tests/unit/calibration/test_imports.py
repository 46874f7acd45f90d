"""Reading a calibration needs neither torch nor transformers."""

from __future__ import annotations

import subprocess
import sys

_CHECK = """
import sys
import judo_edge.calibration, judo_edge.calibration.samples, judo_edge.calibration.plot
print(sorted(name for name in ("torch", "transformers", "onnx", "safetensors") if name in sys.modules))
"""


def test_reading_loads_nothing_heavy() -> None:
    result = subprocess.run([sys.executable, "-c", _CHECK], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
