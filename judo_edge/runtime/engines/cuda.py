"""The one seam to CUDA: memory of the device and page-locked memory of the host, copies, captured graphs, events.

One device, one stream. `cuda-python` serves it, 12.x and 13.x, and pycuda in its place; which of them is there is found
out when it is asked for. Every failure is an EngineError that names the call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np

from judo_edge.errors import DependencyError, EngineError
from judo_edge.runtime.engines.backend import Array

_ACTION = "check the driver with nvidia-smi (a Jetson: tegrastats)"


class HostMemory(NamedTuple):
    """Page-locked memory of the host."""

    array: Array
    """(bytes,) uint8."""
    address: int
    """Where the device sees it; 0 where it is not mapped."""


class Cuda(Protocol):
    """What the TensorRT engine asks of CUDA. Copies and fills are queued on the one stream, in order."""

    @property
    def is_integrated(self) -> bool:
        """Whether device and host share their memory (Jetson), so that mapped memory costs no copy."""
        ...

    @property
    def can_capture(self) -> bool:
        """Whether queued work can be captured as a graph."""
        ...

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        ...

    def free_bytes(self) -> int:
        """Return the device memory that is free."""
        ...

    def allocate(self, num_bytes: int) -> int:
        """Return the address of device memory, a multiple of 256."""
        ...

    def free(self, address: int) -> None:
        """Give device memory back."""
        ...

    def host(self, num_bytes: int) -> HostMemory:
        """Return page-locked memory, mapped where the device is integrated."""
        ...

    def free_host(self, memory: HostMemory) -> None:
        """Give it back."""
        ...

    def upload(self, address: int, content: Array) -> None:
        """Queue a copy of contiguous host memory to the device."""
        ...

    def download(self, content: Array, address: int) -> None:
        """Queue a copy from the device into contiguous host memory."""
        ...

    def clear(self, address: int, num_bytes: int) -> None:
        """Queue a fill with zeros."""
        ...

    def synchronize(self) -> None:
        """Wait for all that is queued."""
        ...

    def begin_capture(self) -> None:
        """Record what is queued from now on instead of running it."""
        ...

    def end_capture(self) -> object:
        """Return what was recorded, ready to be launched."""
        ...

    def launch(self, graph: object) -> None:
        """Queue all that a graph holds."""
        ...

    def release(self, graph: object) -> None:
        """Give a graph back."""
        ...

    def mark(self) -> object:
        """Queue an event and return it."""
        ...

    def seconds(self, begin: object, end: object) -> float:
        """Return the device time between two events that have happened."""
        ...

    def close(self) -> None:
        """Give back the stream."""
        ...


def open_cuda() -> Cuda:
    """Return CUDA by whichever Python package is installed; DependencyError when there is none."""
    for module, create in _choices():
        with suppress(ImportError):
            return create(import_module(module))
    found = "neither cuda-python nor pycuda is installed"
    raise DependencyError(found, "one of them", "pip install 'judo-edge[tensorrt]'")


def _choices() -> tuple[tuple[str, Callable[[Any], Cuda]], ...]:
    from judo_edge.runtime.engines.pycuda import PyCuda

    # cuda-python before 12.7 has its runtime under another name.
    return (("cuda.bindings.runtime", CudaPython), ("cuda.cudart", CudaPython), ("pycuda.driver", PyCuda))


class CudaPython:
    """CUDA's runtime through NVIDIA's own bindings."""

    can_capture = True

    def __init__(self, runtime: Any) -> None:
        """Take the module of the runtime and open the first device."""
        self._runtime = runtime
        self._call("cudaSetDevice", 0)
        integrated = runtime.cudaDeviceAttr.cudaDevAttrIntegrated
        self.is_integrated = bool(self._call("cudaDeviceGetAttribute", integrated, 0))
        self._stream = self._call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self.stream = int(self._stream)

    def free_bytes(self) -> int:
        """Return the device memory that is free."""
        return int(self._call("cudaMemGetInfo")[0])

    def allocate(self, num_bytes: int) -> int:
        """Return device memory."""
        return int(self._call("cudaMalloc", num_bytes))

    def free(self, address: int) -> None:
        """Give it back."""
        self._call("cudaFree", address)

    def host(self, num_bytes: int) -> HostMemory:
        """Return page-locked memory."""
        flags = self._runtime.cudaHostAllocMapped if self.is_integrated else self._runtime.cudaHostAllocDefault
        place = int(self._call("cudaHostAlloc", num_bytes, flags))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * num_bytes).from_address(place))
        return HostMemory(array, int(self._call("cudaHostGetDevicePointer", place, 0)) if self.is_integrated else 0)

    def free_host(self, memory: HostMemory) -> None:
        """Give it back."""
        self._call("cudaFreeHost", memory.array.ctypes.data)

    def upload(self, address: int, content: Array) -> None:
        """Queue a copy to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, content.ctypes.data, content.nbytes, kind, self._stream)

    def download(self, content: Array, address: int) -> None:
        """Queue a copy from the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", content.ctypes.data, address, content.nbytes, kind, self._stream)

    def clear(self, address: int, num_bytes: int) -> None:
        """Queue a fill with zeros."""
        self._call("cudaMemsetAsync", address, 0, num_bytes, self._stream)

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._call("cudaStreamSynchronize", self._stream)

    def begin_capture(self) -> None:
        """Begin to record."""
        # Thread-local: another thread's calls neither enter the capture nor break it.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)

    def end_capture(self) -> object:
        """Return the recorded graph, instantiated."""
        graph = self._call("cudaStreamEndCapture", self._stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: object) -> None:
        """Queue a graph."""
        self._call("cudaGraphLaunch", graph, self._stream)

    def release(self, graph: object) -> None:
        """Give it back."""
        self._call("cudaGraphExecDestroy", graph)

    def mark(self) -> object:
        """Queue an event."""
        event = self._call("cudaEventCreate")
        self._call("cudaEventRecord", event, self._stream)
        return event

    def seconds(self, begin: object, end: object) -> float:
        """Return the time between two events; CUDA counts in milliseconds."""
        return float(self._call("cudaEventElapsedTime", begin, end)) / 1000

    def close(self) -> None:
        """Give back the stream."""
        self._call("cudaStreamDestroy", self._stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Return what a call returns besides its status, unpacked when it is one value."""
        try:
            status, *values = getattr(self._runtime, name)(*arguments)
        except RuntimeError as error:  # raised where libcuda cannot be loaded at all
            raise EngineError(f"{name}: {error}", "an NVIDIA driver", _ACTION) from error
        if int(status) != 0:
            raise EngineError(f"{name}: {self._name_of(status)}", "a CUDA device that answers", _ACTION)
        return values[0] if len(values) == 1 else tuple(values)

    def _name_of(self, status: Any) -> str:
        _, name = self._runtime.cudaGetErrorName(status)
        return name.decode() if isinstance(name, bytes) else str(name)
