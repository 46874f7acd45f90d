"""Graphs without numbers: a Qwen2.5-VL model traced into a vision graph and one or several decoder graphs.

`graphs_from_config` traces, a quantizer may rewrite `GraphSpec.model`, `onnx_with_weights` streams the numbers to disk.
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
    Rows,
    TensorSpec,
    Transform,
    WeightUse,
    values_from_tensor,
)
from judo_edge.export.graphs.store import LazyTensor, TensorSource, lazy_tensors, onnx_with_weights, save_model

__all__ = [
    "Dialect",
    "ExportedGraphs",
    "FloatType",
    "GraphForm",
    "GraphSpec",
    "LazyTensor",
    "LinearUse",
    "Rows",
    "TensorSource",
    "TensorSpec",
    "Transform",
    "WeightUse",
    "checkpoint_name_from_module_name",
    "graphs_from_config",
    "lazy_tensors",
    "onnx_with_weights",
    "save_model",
    "values_from_tensor",
]
