"""The runtime: bundles on the line. Imports without torch, transformers, onnx, tensorrt or asyncua."""

from judo_edge.runtime.engines import engine_from_bundle, engine_names
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.outputs import RunOutput
from judo_edge.runtime.references import ReferenceStore
from judo_edge.runtime.report import RunFacts
from judo_edge.runtime.run import inspected

__all__ = [
    "Inspection",
    "Inspector",
    "ReferenceStore",
    "RunFacts",
    "RunOutput",
    "engine_from_bundle",
    "engine_names",
    "inspected",
]
