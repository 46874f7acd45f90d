"""The ONNX Runtime engine: both graphs of a bundle on the CPU.

Imported only through the registry, because it imports onnxruntime.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from judo_edge.core import Floats, Ints
from judo_edge.errors import EngineError
from judo_edge.runtime.engines.base import Decoded

if TYPE_CHECKING:
    from judo_edge.bundle import Bundle

_QUIET = 3
"""Log severity: errors only; a failure is raised, so nothing is lost."""


class OnnxRuntimeEngine:
    """Two sessions over the CPU provider."""

    name = "onnxruntime"

    def __init__(self, vision: Path, decoder: Path, digest: str, threads: int = 0) -> None:
        """Remember the graphs; `threads` per operator, 0 for as many as there are cores."""
        self._paths = (vision, decoder)
        self._threads = threads
        self._sessions: tuple[Any, Any] | None = None
        self._outputs: list[str] = []
        self.digest = digest

    def __enter__(self) -> OnnxRuntimeEngine:
        """Open both sessions; EngineError when a graph does not load."""
        vision, decoder = (self._open(path) for path in self._paths)
        self._sessions = (vision, decoder)
        known = {output.name for output in decoder.get_outputs()}
        self._outputs = [name for name in ("logits", "present", "cells") if name in known]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the sessions."""
        self._sessions = None

    def encode(self, patches: Floats) -> Floats:
        """Return (N, T, D) embeddings of (N, P, 1176) patches."""
        (embeddings,) = self._run(0, ["embeddings"], {"pixel_values": patches})
        return np.asarray(embeddings, dtype=np.float32)

    def decode(self, inputs_embeds: Floats, positions: Ints, mask: Floats, past: Floats, rows: Ints) -> Decoded:
        """Advance the decoder; see `Engine.decode`."""
        feeds = {"inputs_embeds": inputs_embeds, "positions": positions, "mask": mask, "past": past, "rows": rows}
        return Decoded(*self._run(1, self._outputs, feeds))

    def _open(self, path: Path) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = _QUIET
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen unrelated kinds
            raise EngineError(f"{path.name}: {_first_line(error)}", "a graph that loads", "export again") from error

    def _run(self, index: int, outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        if self._sessions is None:
            raise RuntimeError("the engine is used outside its `with` block")
        try:
            return list(self._sessions[index].run(outputs, feeds))
        except Exception as error:  # as above; the inspector turns it into a verdict
            name = self._paths[index].name
            raise EngineError(f"{name}: {_first_line(error)}", "a pass that runs", "run judo-edge info") from error


def engine_from_bundle(bundle: Bundle, threads: int) -> OnnxRuntimeEngine:
    """Return the engine of a bundle, not yet entered."""
    vision, _ = bundle.graph("vision")
    decoder, _ = bundle.graph("decoder")
    return OnnxRuntimeEngine(vision, decoder, embedding_digest(bundle), threads)


def embedding_digest(bundle: Bundle) -> str:
    """Return what decides a photo's embedding: the vision graph, its weights and the version of ONNX Runtime."""
    _, entry = bundle.graph("vision")
    files = bundle.manifest.files
    parts = [files[entry.file].sha256, files[entry.data].sha256, "onnxruntime", onnxruntime.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
