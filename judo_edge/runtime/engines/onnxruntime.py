"""The ONNX Runtime engines: the graphs of a bundle on the CPU, or on a GPU by ONNX Runtime's CUDA provider.

Imported only through the registry, because it imports onnxruntime.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from judo_edge.errors import DependencyError, EngineError, first_line
from judo_edge.runtime.engines.backend import Array, Backend, Bound, Call
from judo_edge.runtime.engines.graphs import GraphEngine
from judo_edge.runtime.engines.hostmemory import HostMemory
from judo_edge.runtime.engines.layout import layout_from_manifest

if TYPE_CHECKING:
    from judo_edge.bundle import Bundle

_QUIET = 3
"""Log severity: errors only; a failure is raised, so nothing is lost."""
_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


class SessionBackend(HostMemory):
    """One session for each graph on the CPU; memory of the host for all that is bound."""

    device = "cpu"
    max_images = 0
    max_batch = 32
    """The graphs leave it open; the logits of more prompts take memory for nothing."""
    widths: tuple[int, ...] = ()

    def __init__(self, paths: Mapping[str, Path], threads: int = 0, multiple: int = 1) -> None:
        """Open the graphs; `threads` per operator, 0 for as many as there are cores. EngineError when one is broken.

        `multiple` is what numbers of rows are made multiples of.
        """
        super().__init__()
        self.multiple = multiple
        self._names = {name: path.name for name, path in paths.items()}
        self._sessions = {name: opened_session(path, threads, self.device) for name, path in paths.items()}
        self._bindings = {name: session.io_binding() for name, session in self._sessions.items()}
        self._bound: dict[str, dict[str, Any]] = {name: {} for name in paths}

    def run(self, calls: Sequence[Call]) -> None:
        """Run the graphs; EngineError names the one that fails."""
        for call in calls:
            self._run(call)

    def _run(self, call: Call) -> None:
        try:
            self._bind(call)
            self._sessions[call.graph].run_with_iobinding(self._bindings[call.graph])
        except Exception as error:  # onnxruntime raises a dozen unrelated kinds
            found = f"{self._names[call.graph]}: {first_line(error)}"
            raise EngineError(found, "a pass that runs", "run judo-edge info") from error

    def _bind(self, call: Call) -> None:
        """Bind what is not bound already at the same place: caches stay where they are from pass to pass."""
        binding, known = self._bindings[call.graph], self._bound[call.graph]
        for bind, bounds in ((binding.bind_input, call.inputs), (binding.bind_output, call.outputs)):
            for name, bound in bounds.items():
                place = bound[:3]
                if known.get(name) != place:
                    bind(name, self._place(bound), 0, bound.dtype.type, bound.shape, bound.address)
                    known[name] = place

    def close(self) -> None:
        """Drop sessions and memory."""
        super().close()
        self._bindings, self._sessions, self._bound = {}, {}, {}

    def _place(self, bound: Bound) -> str:
        return "cpu" if bound.on_host else self.device


class CudaSessionBackend(SessionBackend):
    """The same over ONNX Runtime's CUDA provider: caches and hidden rows stay on the card."""

    device = "cuda"

    def __init__(self, paths: Mapping[str, Path], threads: int = 0, multiple: int = 1) -> None:
        """Open the graphs; EngineError when the provider cannot be used."""
        super().__init__(paths, threads, multiple)
        self._values: dict[str, Any] = {}
        for name, session in self._sessions.items():
            if "CUDAExecutionProvider" not in session.get_providers():
                found = f"{self._names[name]}: ONNX Runtime fell back to the CPU"
                raise EngineError(found, "a CUDA device and its libraries", "use the engine onnxruntime")

    def reserve(self, name: str, num_bytes: int, clear: bool) -> int:
        """Return the address of a block on the card."""
        value = self._values.get(name)
        if value is None or value.shape()[0] < num_bytes:
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type([num_bytes], np.uint8, self.device, 0)
            self._values[name] = value
            clear = True
        if clear:
            value.update_inplace(np.zeros(value.shape(), np.uint8))
        return int(value.data_ptr())

    def load(self, name: str, content: Array) -> None:
        """Copy an array into a block; what lies behind it is cleared."""
        value = self._values[name]
        image = np.zeros(value.shape(), np.uint8)
        raw = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        image[: raw.size] = raw
        value.update_inplace(image)

    def read(self, name: str, num_bytes: int, offset: int = 0) -> Array:
        """Return a copy of part of a block; ONNX Runtime copies no less than all of it."""
        part: Array = self._values[name].numpy()[offset : offset + num_bytes].copy()
        return part

    def close(self) -> None:
        """Drop sessions and memory."""
        super().close()
        self._values = {}


def opened_session(path: Path, threads: int, device: str) -> Any:
    """Open one graph; EngineError with ONNX Runtime's reason when it does not load."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _QUIET
    # Threads of one graph that still wait by spinning take the cores from the next graph's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=_PROVIDERS[device])
    except Exception as error:  # onnxruntime raises a dozen unrelated kinds
        raise EngineError(f"{path.name}: {first_line(error)}", "a graph that loads", "export again") from error


def engine_from_bundle(bundle: Bundle, threads: int) -> GraphEngine:
    """Return the engine of a bundle on the CPU, not yet entered."""
    return _engine(bundle, "onnxruntime", lambda paths: SessionBackend(paths, threads, row_multiple(bundle)))


def cuda_engine_from_bundle(bundle: Bundle, threads: int) -> GraphEngine:
    """Return the engine of a bundle on ONNX Runtime's CUDA provider; DependencyError when this build has none."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        found = f"onnxruntime {onnxruntime.__version__} without its CUDA provider"
        raise DependencyError(found, "onnxruntime-gpu in place of onnxruntime", "pip install judo-edge[gpu]")
    return _engine(bundle, "onnxruntime-cuda", lambda paths: CudaSessionBackend(paths, threads, row_multiple(bundle)))


def row_multiple(bundle: Bundle) -> int:
    """Return the number of rows in whose multiples every row's result is the same, however many there are.

    MatMulNBits computes a last odd row by a kernel of its own, up to 0.16 logits away (LOG.md); with an even number of
    rows a draft that is checked and a token that is decoded alone see the same numbers.
    """
    forms = {decision.form for decision in bundle.manifest.decisions.values()}
    return 2 if any(form.startswith(("int8-block", "int4-block")) for form in forms) else 1


def _engine(bundle: Bundle, name: str, opened: Callable[[dict[str, Path]], Backend]) -> GraphEngine:
    layout = layout_from_manifest(bundle.manifest)
    paths = {graph: bundle.graph(graph)[0] for graph in layout.graphs}
    return GraphEngine(name, embedding_digest(bundle, name), layout, lambda: opened(paths))


def embedding_digest(bundle: Bundle, name: str = "onnxruntime") -> str:
    """Return what decides a photo's embedding: the vision graph, its weights, the engine and ONNX Runtime's version."""
    _, entry = bundle.graph("vision")
    files = bundle.manifest.files
    parts = [files[entry.file].sha256, files[entry.data].sha256, name, onnxruntime.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
