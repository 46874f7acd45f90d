"""Graphs without numbers: a Qwen2.5-VL model traced into a vision graph and one or several decoder graphs.

`graphs_from_config` traces, a quantizer may rewrite `GraphSpec.model`; `export/stream` writes the numbers.
"""

from judo_edge.export.graphs.build import graphs_from_config
from judo_edge.export.graphs.names import checkpoint_name_from_module_name
from judo_edge.export.graphs.spec import (
    Dialect,
    ExportedGraphs,
    FloatType,
    GraphForm,
    GraphSpec,
    LinearUse,
    ProbeForm,
    Rows,
    TensorSpec,
    Transform,
    WeightUse,
)

__all__ = [
    "Dialect",
    "ExportedGraphs",
    "FloatType",
    "GraphForm",
    "GraphSpec",
    "LinearUse",
    "ProbeForm",
    "Rows",
    "TensorSpec",
    "Transform",
    "WeightUse",
    "checkpoint_name_from_module_name",
    "graphs_from_config",
]
