"""A stand-in for CUDA and TensorRT, the only seam of the native engine that a machine without a GPU cannot run.

It is strict where the real ones are: memory of the device is reachable only by queued copies, work runs at
`synchronize`, shapes must lie in a profile, addresses in allocated memory and on multiples of 256, a cache must be
updated where it lies, and a captured graph keeps the shapes and addresses of its capture. A "plan" is the path of an
ONNX graph, run by ONNX Runtime over those addresses. What it cannot show is speed and TensorRT's own arithmetic.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from enum import Enum
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from judo_edge.bundle import Bundle
from judo_edge.plans import Environment, Plan, PlanHeader, profiles_of
from judo_edge.plans.profiles import shapes_in
from judo_edge.runtime.engines.backend import Array
from judo_edge.runtime.engines.cuda import HostMemory
from judo_edge.runtime.engines.graphs import GraphEngine
from judo_edge.runtime.engines.layout import layout_from_manifest
from judo_edge.runtime.engines.tensorrt import embedding_digest, opened_backend

ENVIRONMENT = Environment(
    backend="tensorrt", version="10.16.1", compute_capability="8.7", driver="13.2", platform="jetson-39.1"
)
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class FakeCuda:
    """Device memory in numpy blocks that begin as not-a-number, and one stream as a list of closures."""

    stream = 7

    def __init__(self, is_integrated: bool = False, can_capture: bool = True) -> None:
        self.is_integrated, self.can_capture = is_integrated, can_capture
        self.blocks: dict[int, Array] = {}
        self.mapped: dict[int, Array] = {}
        self.queue: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.counts = {"launch": 0, "capture": 0, "uploaded": 0, "downloaded": 0}
        self.live_graphs = self.engine_bytes = 0
        self.is_closed = False

    def free_bytes(self) -> int:
        return (1 << 30) - self.engine_bytes - sum(block.nbytes for block in self.blocks.values())

    def allocate(self, num_bytes: int) -> int:
        raw = np.full(num_bytes + 256, 0xFF, np.uint8)
        block = raw[-raw.ctypes.data % 256 :][:num_bytes]
        self.blocks[block.ctypes.data] = block
        return int(block.ctypes.data)

    def free(self, address: int) -> None:
        assert not self.queue, "memory freed under queued work"
        del self.blocks[address]

    def host(self, num_bytes: int) -> HostMemory:
        raw = np.zeros(num_bytes + 256, np.uint8)
        array = raw[-raw.ctypes.data % 256 :][:num_bytes]
        if self.is_integrated:
            self.mapped[array.ctypes.data] = array
        return HostMemory(array, int(array.ctypes.data) if self.is_integrated else 0)

    def free_host(self, memory: HostMemory) -> None:
        self.mapped.pop(memory.array.ctypes.data, None)

    def upload(self, address: int, content: Array) -> None:
        self.counts["uploaded"] += content.nbytes
        self._put(lambda: self._copy(address, content.ctypes.data, content, to_device=True))

    def download(self, content: Array, address: int) -> None:
        self.counts["downloaded"] += content.nbytes
        self._put(lambda: self._copy(content.ctypes.data, address, content, to_device=False))

    def clear(self, address: int, num_bytes: int) -> None:
        self.check(address, num_bytes)
        self._put(lambda: ctypes.memset(address, 0, num_bytes) and None)

    def synchronize(self) -> None:
        assert self.captured is None, "cannot wait while capturing"
        queue, self.queue = self.queue, []
        for work in queue:
            work()

    def begin_capture(self) -> None:
        assert self.captured is None and not self.queue
        self.captured = []

    def end_capture(self) -> object:
        graph, self.captured = self.captured, None
        assert graph is not None
        self.counts["capture"] += 1
        self.live_graphs += 1
        return graph

    def launch(self, graph: object) -> None:
        assert isinstance(graph, list)
        self.counts["launch"] += 1
        for work in graph:
            self._put(work)

    def release(self, graph: object) -> None:
        self.live_graphs -= 1

    def mark(self) -> object:
        return object()

    def seconds(self, begin: object, end: object) -> float:
        return 0.0

    def close(self) -> None:
        assert not self.blocks and not self.mapped and not self.live_graphs, "something was not given back"
        self.is_closed = True

    def check(self, address: int, num_bytes: int) -> None:
        """Refuse an address range that does not lie inside one allocation that the device sees."""
        for begin, block in (*self.blocks.items(), *self.mapped.items()):
            if begin <= address and address + num_bytes <= begin + block.nbytes:
                return
        raise AssertionError(f"{num_bytes} bytes at {address:#x} are not device memory")

    def put(self, work: Callable[[], None]) -> None:
        self._put(work)

    def _put(self, work: Callable[[], None]) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def _copy(self, target: int, source: int, content: Array, to_device: bool) -> None:
        assert content.flags.c_contiguous
        device = target if to_device else source
        assert not any(b <= device < b + block.nbytes for b, block in self.mapped.items()), "a needless copy"
        self.check(device, content.nbytes)
        ctypes.memmove(target, source, content.nbytes)


class _Context:
    """One execution context."""

    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.profile: int | None = None
        self.scratch: tuple[int, int] = (0, 0)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_device_memory(self, memory: int, size: int) -> None:
        self.engine.cuda.check(memory, size)
        self.scratch = memory, size

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        assert stream == FakeCuda.stream
        self.profile = profile
        return profile < len(self.engine.limits)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None
        low, _, high = self.engine.limits[self.profile][name]
        self.shapes[name] = tuple(shape)
        return len(low) == len(shape) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream: int) -> bool:
        engine = self.engine
        assert stream == FakeCuda.stream and self.scratch[1] >= engine.device_memory_size_v2
        assert set(self.shapes) == set(engine.inputs) and set(self.addresses) == engine.names
        if engine.fails:
            engine.log.log(engine.log.Severity.ERROR, "kernel failed")
            return False
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        engine.cuda.put(lambda: engine.run(shapes, addresses))
        return True


class _Engine:
    """A graph that ONNX Runtime runs over addresses."""

    device_memory_size_v2 = 4096

    def __init__(self, cuda: FakeCuda, log: Any, path: str, limits: list[dict[str, Any]]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.cuda, self.log, self.limits, self.fails = cuda, log, limits, False
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {item.name: _TYPES[item.type] for item in self.session.get_inputs()}
        self.outputs = {item.name: _TYPES[item.type] for item in self.session.get_outputs()}
        self.names = {*self.inputs, *self.outputs}
        self.num_runs = 0

    def create_execution_context(self, strategy: str) -> _Context:
        assert strategy == "user"
        return _Context(self)

    def run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        self.num_runs += 1
        feeds = {name: self._view(name, shapes[name], addresses).copy() for name in self.inputs}
        results = self.session.run(list(self.outputs), feeds)
        for name, result in zip(self.outputs, results, strict=True):
            if name.startswith("present_"):
                assert addresses[name] == addresses[name.replace("present", "past", 1)], "a cache moved"
            self._view(name, result.shape, addresses)[...] = result

    def _view(self, name: str, shape: tuple[int, ...], addresses: dict[str, int]) -> Array:
        dtype = np.dtype({**self.inputs, **self.outputs}[name])
        num_bytes = prod(shape) * dtype.itemsize
        if not num_bytes:
            return np.empty(shape, dtype)
        self.cuda.check(addresses[name], num_bytes)
        raw = (ctypes.c_uint8 * num_bytes).from_address(addresses[name])
        return np.frombuffer(raw, np.uint8).view(dtype).reshape(shape)


def fake_tensorrt(cuda: FakeCuda, engines: list[Any] | None = None) -> Any:
    """Return what the engine uses of the module `tensorrt`; every engine that it makes is put into `engines`."""

    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log
            log.Severity = Severity

        def deserialize_cuda_engine(self, data: memoryview) -> Any:
            if bytes(data[:1]) != b"{":
                self.log.log(Severity.ERROR, "bad plan")
                return None
            cuda.engine_bytes += 1000
            engine = _Engine(cuda, self.log, **json.loads(bytes(data)))
            if engines is not None:
                engines.append(engine)
            return engine

    class Logger:
        pass

    Logger.Severity = Severity  # type: ignore[attr-defined]
    strategies = SimpleNamespace(USER_MANAGED="user")
    return SimpleNamespace(ILogger=Logger, Runtime=Runtime, ExecutionContextAllocationStrategy=strategies)


def fake_plan(bundle: Bundle, graph: str, max_tokens: int = 256) -> Plan:
    """Return the "plan" of a graph, with the profiles that the builder would have used."""
    path, entry = bundle.graph(graph)
    inputs = {name: spec.shape for name, spec in entry.inputs.items()}
    profiles = profiles_of(inputs, bundle.manifest.dialect, max_tokens)
    limits = [shapes_in(profile, inputs, bundle.manifest.dialect) for profile in profiles]
    header = PlanHeader(bundle=bundle.content_digest, graph=graph, environment=ENVIRONMENT, profiles=profiles)
    return Plan(header=header, data=memoryview(json.dumps({"path": str(path), "limits": limits}).encode()))


def native_engine(
    bundle: Bundle, cuda: FakeCuda, engines: list[Any] | None = None, max_tokens: int = 256
) -> GraphEngine:
    """Return the native engine of a bundle over the stand-ins."""
    layout = layout_from_manifest(bundle.manifest)
    library = fake_tensorrt(cuda, engines)

    def plan_of(graph: str) -> Plan:
        return fake_plan(bundle, graph, max_tokens)

    digest = embedding_digest(bundle, ENVIRONMENT)
    return GraphEngine("tensorrt", digest, layout, lambda: opened_backend(cuda, library, bundle, layout, plan_of))
