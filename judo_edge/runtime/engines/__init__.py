"""The registry of engines: a name, and where its class lies. A backend is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

from judo_edge.errors import ConfigError, DependencyError

if TYPE_CHECKING:
    from judo_edge.bundle import Bundle
    from judo_edge.runtime.engines.base import Engine

_ENGINES = {
    "onnxruntime": ("judo_edge.runtime.engines.onnxruntime", "engine_from_bundle", "judo-edge"),
    "onnxruntime-cuda": ("judo_edge.runtime.engines.onnxruntime", "cuda_engine_from_bundle", "judo-edge[gpu]"),
    "openvino": ("judo_edge.runtime.engines.openvino", "engine_from_bundle", "judo-edge[openvino]"),
    "tensorrt": ("judo_edge.runtime.engines.tensorrt", "engine_from_bundle", "judo-edge[tensorrt]"),
}


def engine_names() -> tuple[str, ...]:
    """List the engines that can be asked for by name."""
    return tuple(sorted(_ENGINES))


def engine_from_bundle(bundle: Bundle, name: str = "onnxruntime", threads: int = 0) -> Engine:
    """Return the named engine over a bundle, not yet entered; `threads` 0 leaves the number to the backend.

    Raises ConfigError for an unknown name and DependencyError when the backend is not installed.
    """
    if name not in _ENGINES:
        raise ConfigError(f"engine {name!r}", f"one of {', '.join(engine_names())}", "choose an engine from the list")
    module, function, package = _ENGINES[name]
    try:
        create = cast("Callable[[Bundle, int], Engine]", getattr(import_module(module), function))
    except ModuleNotFoundError as error:
        missing = f"engine {name!r} needs the package {error.name!r}"
        raise DependencyError(missing, "the package installed", f"pip install {package}") from error
    return create(bundle, threads)
