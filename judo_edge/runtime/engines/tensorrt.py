"""The TensorRT engine: the plans that `judo-edge build` made for this machine, by TensorRT or TensorRT for RTX.

Imported only through the registry. Opens nothing but plans whose seal is right and whose environment is this one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from judo_edge.errors import DependencyError, EngineError, PlanError
from judo_edge.plans import (
    Environment,
    Plan,
    PlanStore,
    check_environment,
    current_environment,
    gpu_of_driver,
    key_of_user,
)
from judo_edge.plans.environment import Backend as Builder
from judo_edge.plans.store import plans_folder
from judo_edge.runtime.engines.cuda import Cuda, open_cuda
from judo_edge.runtime.engines.graphs import GraphEngine
from judo_edge.runtime.engines.layout import Layout, layout_from_manifest
from judo_edge.runtime.engines.planned import PlanBackend, rooms_from_entries
from judo_edge.runtime.engines.programs import Program, limits_from_profiles

if TYPE_CHECKING:
    from judo_edge.bundle import Bundle

_BUILDERS: tuple[Builder, ...] = ("tensorrt", "tensorrt_rtx")


def engine_from_bundle(bundle: Bundle, threads: int) -> GraphEngine:
    """Return the engine of a bundle, not yet entered; `threads` does not matter here.

    Raises EngineError without a GPU, DependencyError without TensorRT, PlanError when this machine is not supported or
    has no plans of the bundle.
    """
    layout = layout_from_manifest(bundle.manifest)
    store = PlanStore(plans_folder(), key_of_user())
    environment = _environment(bundle, store)
    rebuild = rebuild_command(bundle, environment)
    check_environment(environment, layout.dialect, rebuild)

    def plan_of(graph: str) -> Plan:
        return store.read(bundle.content_digest, environment, graph, rebuild)

    def opened() -> PlanBackend:
        library = loaded_library(environment.backend)
        return opened_backend(open_cuda(), library, bundle, layout, plan_of)

    return GraphEngine("tensorrt", embedding_digest(bundle, environment), layout, opened)


def opened_backend(
    cuda: Cuda, library: Any, bundle: Bundle, layout: Layout, plan_of: Callable[[str], Plan]
) -> PlanBackend:
    """Deserialise the plans of all graphs, one at a time so that only one is in memory beside the engines.

    Raises PlanError when TensorRT refuses one.
    """
    free = cuda.free_bytes()
    try:
        log = _log(library)
        runtime = library.Runtime(log)
        programs = {graph: _program(runtime, log, bundle, layout, plan_of(graph)) for graph in layout.graphs}
    except BaseException:
        cuda.close()
        raise
    entries = [bundle.manifest.graphs[graph] for graph in layout.graphs]
    strategy = library.ExecutionContextAllocationStrategy.USER_MANAGED
    rooms = rooms_from_entries(entries, list(programs.values()))
    return PlanBackend(cuda, strategy, programs, rooms, max(0, free - cuda.free_bytes()))


def rebuild_command(bundle: Bundle, environment: Environment) -> str:
    """Return the command that makes a bundle's plans anew."""
    return f"judo-edge build {bundle.folder} --backend {environment.backend}"


def embedding_digest(bundle: Bundle, environment: Environment) -> str:
    """Return what decides a photo's embedding: the vision graph, its weights, and by what and for what it was built."""
    entry = bundle.manifest.graphs["vision"]
    files = bundle.manifest.files
    parts = [files[entry.file].sha256, files[entry.data].sha256, "tensorrt", environment.key]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def loaded_library(builder: Builder) -> Any:
    """Import TensorRT; DependencyError when it is installed but does not load."""
    try:
        return import_module(builder)
    except ImportError as error:
        raise DependencyError(f"{builder} does not load: {error}", "a TensorRT that fits this machine") from error


def _environment(bundle: Bundle, store: PlanStore) -> Environment:
    """Return the environment of the builder that has plans of the bundle, the first one installed if none has."""
    if gpu_of_driver() is None:
        raise EngineError("no NVIDIA GPU with a driver on this machine", "one", "use the engine onnxruntime")
    installed = [item for item in map(_environment_or_none, _BUILDERS) if item is not None]
    if not installed:
        return current_environment(_BUILDERS[0])  # raises, and says what to install
    with_plans = (item for item in installed if store.path(bundle.content_digest, item, "vision").is_file())
    return next(with_plans, installed[0])


def _environment_or_none(builder: Builder) -> Environment | None:
    """Return the environment of a builder, None when it is not installed."""
    try:
        return current_environment(builder)
    except DependencyError:
        return None


def _program(runtime: Any, log: Any, bundle: Bundle, layout: Layout, plan: Plan) -> Program:
    header = plan.header
    rebuild = rebuild_command(bundle, header.environment)
    engine = runtime.deserialize_cuda_engine(plan.data)
    if engine is None:
        found = f"TensorRT refuses the plan of {header.graph}: {log.last}"
        raise PlanError(found, f"a plan for {header.environment}", f"{rebuild} --force")
    shapes = {name: spec.shape for name, spec in bundle.manifest.graphs[header.graph].inputs.items()}
    return Program(header.graph, engine, limits_from_profiles(header.profiles, shapes, layout.dialect), log, rebuild)


def _log(library: Any) -> Any:
    """Return a logger that keeps the last error, which TensorRT says nowhere else."""
    severity = library.ILogger.Severity

    class Log(library.ILogger):  # type: ignore[misc]  # the base comes with the library
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.last = "no reason given"

        def log(self, level: Any, text: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self.last = " ".join(text.split())

    return Log()
