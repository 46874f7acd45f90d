"""Tracing allocates no weights."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import astuple

import pytest

from judo_edge.export.graphs import GraphForm

WIDE = {
    "vocab_size": 152_064,
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "heads": 28,
    "kv_heads": 4,
    "layers": 28,
    "mrope_section": (16, 24, 24),
    "vision_hidden": 1280,
    "vision_mlp": 3420,
    "vision_heads": 16,
    "vision_depth": 32,
    "full_attention_blocks": (7, 15, 23, 31),
}
"""The shape of a 7B model: 8.3 billion parameters with the table, 33 GB in float32."""
FORMS = [
    GraphForm(),
    GraphForm("modern"),
    GraphForm("legacy", "float16", layers_per_segment=7, head_parts=2),
    GraphForm("modern", "float16", layers_per_segment=5, head_parts=4),
]

PROGRAM = """
import json, math, sys
from pathlib import Path
from judo_edge.export.graphs import GraphForm, graphs_from_config
from tests.tiny import tiny_config
graphs = graphs_from_config(tiny_config(**json.loads(sys.argv[1])), 504, GraphForm(*json.loads(sys.argv[2])))
uses = [use for graph in graphs.all for use in graph.weights.values()]
size = sum(math.prod(use.shape) for use in uses)
# VmHWM begins anew with the program; ru_maxrss would still hold the peak of the process that started it.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([size, int(peak.split()[1]) * 1024]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.dialect}-{form.dtype}-{form.layers_per_segment}")
def test_a_wide_model_is_traced_without_its_weights(form: GraphForm) -> None:
    arguments = [json.dumps(WIDE), json.dumps(astuple(form))]
    run = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    num_parameters, peak = json.loads(run.stdout.splitlines()[-1])
    assert num_parameters > 7.7e9  # without the table
    assert peak < 1e9, f"{peak / 1e6:.0f} MB"
