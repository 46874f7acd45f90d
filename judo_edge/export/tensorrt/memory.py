"""How much memory and disk a build needs, before it starts.

peak = BASE + FACTOR x weights of the graph. Measured with TensorRT for RTX 1.7.1 on a CPU (tests/tools/segments.py
makes the figures again): one graph in a process of its own, 1, 2 and 4 layers of 7B width in int8. A builder that times
kernels on the GPU also puts one copy of the weights and its workspace there; on a Jetson that is the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from judo_edge.plans import Environment
from judo_edge.plans.rows import version_from_text

BASE = 500_000_000
"""Bytes; libraries of the builder, its process, and what it keeps for every kernel and profile whatever their width."""
FACTOR = 2.8
"""Greatest resident bytes for each byte of weights, the plan streamed to disk."""
WHOLE_PLAN = 1.0
"""More of it where the builder hands the plan over in one piece."""
_STREAMS_FROM = (10, 13)
"""A version of TensorRT that is known to hand it over in pieces; 10.3 does not."""


@dataclass(frozen=True)
class Estimate:
    """What building one graph will take."""

    weights: int
    """Bytes of the graph's file and its external data."""
    host: int
    """Bytes of the builder's process."""
    device: int
    """Bytes on the GPU: weights and workspace; 0 when nothing runs there."""
    shared: bool
    """Host and GPU are the same memory."""

    @property
    def peak(self) -> int:
        """Return what the machine's main memory has to hold."""
        return self.host + (self.device if self.shared else 0)


def estimate_from_weights(weights: int, workspace: int, environment: Environment) -> Estimate:
    """Estimate the build of a graph with `weights` bytes; TensorRT for RTX runs nothing on the GPU while it builds."""
    device = 0 if environment.backend == "tensorrt_rtx" else weights + workspace
    shared = environment.platform.startswith("jetson-")
    streams = environment.backend == "tensorrt_rtx" or version_from_text(environment.version) >= _STREAMS_FROM
    factor = FACTOR if streams else FACTOR + WHOLE_PLAN
    return Estimate(weights, round(BASE + factor * weights), device, shared)
