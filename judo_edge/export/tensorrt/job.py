"""What the builder's own process is asked for, and what it answers. Plain data, passed as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from judo_edge.config import Frozen
from judo_edge.export.tensorrt.report import HeadFacts
from judo_edge.plans import PlanHeader, plan_path

DEFAULT_WORKSPACE = 1 << 30
"""Bytes of scratch memory that a kernel may ask for; a Jetson's GPU shares them with everything else."""

Sizes = tuple[int, ...]


class BuildJob(Frozen):
    """One graph to build."""

    onnx: Path
    store: Path
    """Folder of the plans."""
    header: PlanHeader
    shapes: tuple[dict[str, tuple[Sizes, Sizes, Sizes]], ...]
    """For each profile, each input's least, best and greatest shape."""
    sizes: dict[str, int] = Field(default_factory=dict)
    """Named axes that have one size in every profile; they are fixed in the graph itself."""
    workspace: Annotated[int, Field(gt=0)] = DEFAULT_WORKSPACE
    """Bytes."""
    facts: HeadFacts = HeadFacts()
    """Kept in the layer report."""
    ahead: bool = False
    """Build for the compute capability of the header's environment, whatever GPU is here."""

    @property
    def plan_path(self) -> Path:
        """Return the plan's file."""
        return plan_path(self.store, self.header.bundle, self.header.environment, self.header.graph)

    @property
    def report_path(self) -> Path:
        """Return the layer report's file, beside the plan."""
        return self.plan_path.with_suffix(".layers.json")


class Built(Frozen):
    """What building one graph took."""

    graph: str
    plan_bytes: int
    seconds: float
    """Wall time of the builder's process, 0 when an earlier plan was kept."""
    peak_bytes: int
    """Greatest resident memory of that process, 0 when an earlier plan was kept."""
    kernels: int
    """Kernels that the builder listed, all profiles together; 0 when it lists none."""
    kept: bool = False


class Answer(Frozen):
    """One line of the process's answer: progress, then exactly one of `built` and `error`."""

    step: str = ""
    built: Built | None = None
    error: tuple[str, str, str] | None = None
    """Parts of a JudoEdgeError: found, wanted, action."""
