"""The OpenVINO engine: the graphs of a bundle on a CPU whose integer products ONNX Runtime does not use to the full.

Imported only through the registry, because it imports openvino.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino

from judo_edge.errors import EngineError, first_line
from judo_edge.machine import cpu_flags
from judo_edge.runtime.engines.backend import Array, Bound, Call
from judo_edge.runtime.engines.graphs import GraphEngine
from judo_edge.runtime.engines.hostmemory import HostMemory, array_at
from judo_edge.runtime.engines.layout import VISION, layout_from_manifest
from judo_edge.runtime.engines.openvinograph import common_block, fill_blocks

if TYPE_CHECKING:
    from judo_edge.bundle import Bundle

_SETTINGS: Mapping[str, Any] = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",  # else a CPU that has bfloat16 keeps even the residual stream in it
    "ENABLE_CPU_PINNING": False,  # a station's other processes need the cores too
}
_BYTE_PRODUCTS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8"))
"""Names in Linux's list of what a processor can do."""
_ROWS = 16
"""With rounded activations rows come in multiples of this, and passes begin at them: with fewer rows some products take
another kernel, and logits of a 0.5B shape were up to 0.08 away; 16, 32 and 64 rows are equal bit for bit. In float32
any numbers of rows agreed to 1.1e-4, and every row costs (LOG.md)."""


class OpenVinoBackend(HostMemory):
    """One request for each graph on the CPU; graphs read and write the memory that is bound, without copies."""

    max_images = 0
    max_batch = 32
    """The graphs leave it open; the logits of more prompts take memory for nothing."""
    widths: tuple[int, ...] = ()

    def __init__(self, paths: Mapping[str, Path], threads: int = 0, is_rounding: bool = False) -> None:
        """Open the graphs; `threads` 0 for as many as there are cores. EngineError when one is broken.

        `is_rounding` tells whether activations are rounded to 8 bits.
        """
        super().__init__()
        self.multiple = self.grid = _ROWS if is_rounding else 1
        core = openvino.Core()
        self._names = {name: path.name for name, path in paths.items()}
        self._requests = {name: _opened(core, path, threads, is_rounding) for name, path in paths.items()}
        self._bound: dict[str, dict[str, tuple[Any, ...]]] = {name: {} for name in paths}

    def given(self, name: str, content: Array) -> Bound:
        """Bind the array itself; a copy of one that is not contiguous or only a view, which OpenVINO refuses."""
        return super().given(name, np.require(content, requirements=("C", "W")))

    def run(self, calls: Sequence[Call]) -> None:
        """Run the graphs; EngineError names the one that fails."""
        for call in calls:
            self._run(call)

    def _run(self, call: Call) -> None:
        try:
            self._bind(call)
            request = self._requests[call.graph]
            request.start_async()
            request.wait()
        except Exception as error:  # openvino raises RuntimeError for most and pybind11's own kinds
            found = f"{self._names[call.graph]}: {first_line(error)}"
            raise EngineError(found, "a pass that runs", "run judo-edge info") from error

    def close(self) -> None:
        """Drop requests and memory."""
        super().close()
        self._requests, self._bound = {}, {}

    def _bind(self, call: Call) -> None:
        """Bind what is not bound already at the same place: caches stay where they are from pass to pass."""
        request, known = self._requests[call.graph], self._bound[call.graph]
        for name, bound in {**call.inputs, **call.outputs}.items():
            place = bound[:3]
            if known.get(name) != place:
                request.set_tensor(name, openvino.Tensor(_array(bound), shared_memory=True))
                known[name] = place


def engine_from_bundle(bundle: Bundle, threads: int) -> GraphEngine:
    """Return the engine of a bundle, not yet entered; EngineError for graphs that OpenVINO has no operators for."""
    manifest = bundle.manifest
    if manifest.dialect != "legacy" or manifest.dtype != "float32":
        found = f"graphs in the {manifest.dialect} dialect and {manifest.dtype}"
        raise EngineError(found, "legacy and float32", "export with a recipe whose name begins with cpu")
    layout = layout_from_manifest(manifest)
    paths = {graph: bundle.graph(graph)[0] for graph in layout.graphs}
    is_rounding = has_byte_products()
    opened = partial(OpenVinoBackend, paths, threads, is_rounding)
    return GraphEngine("openvino", embedding_digest(bundle), layout, opened)


def has_byte_products() -> bool:
    """Tell whether the processor multiplies bytes, so that OpenVINO rounds activations to 8 bits.

    A processor that is not known to do without, such as any ARM, is taken for one that does.
    """
    flags = cpu_flags()
    return not flags or bool(flags & _BYTE_PRODUCTS)


def embedding_digest(bundle: Bundle) -> str:
    """Return what decides a photo's embedding: the vision graph, its weights and OpenVINO's version."""
    _, entry = bundle.graph(VISION)
    files = bundle.manifest.files
    parts = [files[entry.file].sha256, files[entry.data].sha256, "openvino", openvino.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _opened(core: Any, path: Path, threads: int, is_rounding: bool) -> Any:
    """Compile one graph; EngineError with OpenVINO's reason when it does not load."""
    try:
        model = core.read_model(path)
        if is_rounding:
            fill_blocks(model)
        block = common_block(model)
        settings = {**_SETTINGS, "INFERENCE_NUM_THREADS": threads, "DYNAMIC_QUANTIZATION_GROUP_SIZE": block}
        return core.compile_model(model, "CPU", settings).create_infer_request()
    except Exception as error:  # openvino raises RuntimeError for most and pybind11's own kinds
        raise EngineError(f"{path.name}: {first_line(error)}", "a graph that loads", "export again") from error


def _array(bound: Bound) -> Array:
    """Return the memory of a bound place as an array."""
    if isinstance(bound.owner, np.ndarray):
        return bound.owner
    return array_at(bound.address, bound.shape, bound.dtype)
