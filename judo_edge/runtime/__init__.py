"""The runtime: bundles on the line. Imports without torch, transformers, onnx, tensorrt or asyncua.

Names come from their modules when they are first used: a station's hub reads camera settings of `runtime.sources`, and
must not load an engine for that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = {
    "Inspection": "inspection",
    "Inspector": "inspector",
    "ReferenceStore": "references",
    "RunFacts": "report",
    "RunOutput": "outputs",
    "engine_from_bundle": "engines",
    "engine_names": "engines",
    "inspected": "run",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module; AttributeError for any other."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
