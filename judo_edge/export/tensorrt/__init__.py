"""TensorRT plans from a bundle's graphs: `judo-edge build`. Needs neither torch nor ONNX.

`build_steps` says what is to be done and what it takes, `build_plans` does it, one process for each graph.
"""

from judo_edge.export.tensorrt.build import BuildSettings, Step, build_plans, build_steps, rebuild_command
from judo_edge.export.tensorrt.job import DEFAULT_WORKSPACE, BuildJob, Built
from judo_edge.export.tensorrt.memory import Estimate, estimate_from_weights
from judo_edge.export.tensorrt.process import run_job
from judo_edge.export.tensorrt.report import (
    HeadFacts,
    Kernel,
    LayerReport,
    expanded_weights,
    is_weight_fused,
    kernels_from_inspector,
    kernels_from_log,
    replicates_kv,
)

__all__ = [
    "DEFAULT_WORKSPACE",
    "BuildJob",
    "BuildSettings",
    "Built",
    "Estimate",
    "HeadFacts",
    "Kernel",
    "LayerReport",
    "Step",
    "build_plans",
    "build_steps",
    "estimate_from_weights",
    "expanded_weights",
    "is_weight_fused",
    "kernels_from_inspector",
    "kernels_from_log",
    "rebuild_command",
    "replicates_kv",
    "run_job",
]
