"""Tracing allocates no weights."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WIDE = {
    "vocab_size": 152_064,
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "heads": 28,
    "kv_heads": 4,
    "layers": 2,
    "mrope_section": (16, 24, 24),
    "vision_hidden": 1280,
    "vision_mlp": 3420,
    "vision_heads": 16,
    "vision_depth": 2,
}
"""The widths of a 7B model in two layers: 1.6 billion parameters, 6.3 GB in float32."""

PROGRAM = """
import json, math, sys
from pathlib import Path
from judo_edge.export.graphs import graphs_from_config
from tests.tiny import tiny_config
graphs = graphs_from_config(tiny_config(**json.loads(sys.argv[1])), 504)
uses = [use for graph in graphs.all for use in graph.weights.values()]
size = sum(math.prod(use.shape) for use in uses)
# VmHWM begins anew with the program; ru_maxrss would still hold the peak of the process that started it.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([size, int(peak.split()[1]) * 1024]))
"""


@pytest.mark.slow
def test_a_wide_model_is_traced_without_its_weights() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(WIDE)], capture_output=True, text=True, check=True)
    num_parameters, peak = json.loads(run.stdout.splitlines()[-1])
    assert num_parameters > 1e9
    assert peak < 1e9, f"{peak / 1e6:.0f} MB"
