"""The only code that calls a TensorRT builder: an ONNX file and profiles in, a plan's bytes and its kernels out.

One code path for `tensorrt` 10.3 to 11 and `tensorrt_rtx`, using what all of them have; later additions are asked for
by `hasattr`. Imported only in the builder's own process, which lets `tensorrt` name whichever of the two is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, SupportsInt, cast

import tensorrt as trt

from judo_edge.errors import PlanError
from judo_edge.export.tensorrt.job import BuildJob
from judo_edge.export.tensorrt.model import model_with_sizes
from judo_edge.export.tensorrt.report import Kernel, kernels_from_inspector, kernels_from_log

Sink = Callable[["bytes | memoryview"], object]
"""Takes the plan's next bytes."""
Tell = Callable[[str], None]
"""Is told the name of a step."""


@dataclass
class Listing:
    """What the builder says: complaints, and its kernels."""

    complaints: list[str] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)

    def add(self, severe: bool, text: str) -> None:
        """Keep a complaint; keep the kernels of a listing, which comes as one message of many lines."""
        if severe:
            self.complaints.append(text.strip())
        self.kernels.extend(kernels_from_log(text.splitlines()))


class Listener(trt.ILogger):
    """Hands the builder's messages to a listing; nothing is printed."""

    def __init__(self, listing: Listing) -> None:
        """Remember where messages go."""
        trt.ILogger.__init__(self)
        self._listing = listing

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Take one message."""
        self._listing.add(severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR), msg)


class Monitor(trt.IProgressMonitor):
    """Tells the steps of a build."""

    def __init__(self, tell: Tell) -> None:
        """Remember whom to tell."""
        trt.IProgressMonitor.__init__(self)
        self._tell = tell

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: SupportsInt) -> None:
        """Tell the outer steps only."""
        if parent_phase is None:
            self._tell(phase_name)

    def phase_finish(self, phase_name: str) -> None:
        """Nothing to tell."""

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        """Go on."""
        return True


def build(job: BuildJob, timing: bytes, sink: Sink, tell: Tell) -> tuple[list[Kernel], bytes]:
    """Build a plan, passing its bytes to `sink`; return the kernels that the builder lists and its timing cache.

    Raises PlanError with the builder's first complaint when it refuses the graph or a profile.
    """
    listing = Listing()
    builder = trt.Builder(Listener(listing))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = _parsed(job, network, Listener(listing))
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.progress_monitor = Monitor(tell)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if job.ahead:
        _name_capability(config, job.header.environment.compute_capability)
    _add_profiles(job, builder, config)
    config.set_timing_cache(config.create_timing_cache(timing), False)
    if not _run(builder, network, config, sink):
        raise _refused(job, "cannot build", listing.complaints)
    del parser  # holds the weights that the network points at
    cache: trt.ITimingCache | None = config.get_timing_cache()
    return listing.kernels, bytes(cast(Any, cache.serialize())) if cache else b""


def kernels_of_plan(data: memoryview) -> tuple[Kernel, ...]:
    """Ask the inspector of a plan made here for its kernels; needs the GPU, and is empty where it cannot be opened."""
    runtime = trt.Runtime(Listener(Listing()))
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(data)
    if engine is None:
        return ()
    inspector: trt.EngineInspector = engine.create_engine_inspector()
    return kernels_from_inspector(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _parsed(job: BuildJob, network: trt.INetworkDefinition, listener: trt.ILogger) -> trt.OnnxParser:
    parser = trt.OnnxParser(network, listener)
    if not parser.parse(model_with_sizes(job.onnx.read_bytes(), job.sizes), str(job.onnx)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise _refused(job, "cannot read", [f"{error.desc()} (node {error.node_name()})" for error in errors])
    return parser


def _add_profiles(job: BuildJob, builder: trt.Builder, config: trt.IBuilderConfig) -> None:
    for shapes, wanted in zip(job.shapes, job.header.profiles, strict=True):
        profile: trt.IOptimizationProfile = builder.create_optimization_profile()
        for name, shapes_of_input in shapes.items():
            profile.set_shape(name, *(trt.Dims(list(shape)) for shape in shapes_of_input))
        if config.add_optimization_profile(profile) < 0:
            raise _refused(job, f"refuses the profile {wanted.name} for", [])


def _name_capability(config: Any, capability: str) -> None:
    """Build for a GPU that is not here; only TensorRT for RTX can."""
    name = f"SM{capability.replace('.', '')}"
    capabilities = getattr(trt, "ComputeCapability", None)
    if capabilities is None or not hasattr(config, "set_compute_capability"):
        raise PlanError("this builder cannot build for another GPU", action="build on the target")
    if name not in capabilities.__members__:
        known = ", ".join(sorted(capabilities.__members__))
        raise PlanError(f"this builder does not know compute capability {capability}", known)
    config.num_compute_capabilities = 1
    config.set_compute_capability(capabilities.__members__[name], 0)


def _run(builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig, sink: Sink) -> bool:
    """Build, in pieces where the builder can: the whole plan is then never in memory a second time."""
    writer: Any = getattr(trt, "IStreamWriter", None)
    if writer is not None and hasattr(builder, "build_serialized_network_to_stream"):
        return _streamed(builder, network, config, sink, writer)
    plan: trt.IHostMemory | None = builder.build_serialized_network(network, config)
    if plan is not None:
        sink(memoryview(cast(Any, plan)))  # no copy
    return plan is not None


def _streamed(
    builder: Any, network: trt.INetworkDefinition, config: trt.IBuilderConfig, sink: Sink, writer: Any
) -> bool:
    """Build into `sink` by a class `writer`; what `sink` raises must not cross the builder's own code."""
    failures: list[Exception] = []

    class Stream(writer):
        def __init__(self) -> None:
            writer.__init__(self)

        def write(self, *data: Any) -> int:
            try:
                sink(data[0])
            except Exception as error:
                failures.append(error)
            return 0 if failures else len(data[0])

    done = bool(builder.build_serialized_network_to_stream(network, config, Stream()))
    for failure in failures[:1]:
        raise failure
    return done


def _refused(job: BuildJob, what: str, complaints: list[str]) -> PlanError:
    first = complaints[0] if complaints else "no reason given"
    return PlanError(f"{job.header.environment.backend} {what} {job.header.graph}: {first}")
