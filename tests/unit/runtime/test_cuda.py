"""The seam to CUDA: which package serves it, and that a failed call says its name. No GPU is needed or used."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from judo_edge.errors import DependencyError, EngineError
from judo_edge.runtime.engines import cuda as seam
from judo_edge.runtime.engines.cuda import CudaPython, open_cuda
from judo_edge.runtime.engines.pycuda import PyCuda


def runtime(fails: str = "", **answers: Any) -> Any:
    """Stand in for cuda-python's module: each call notes itself and returns (status, value)."""
    calls: list[tuple[Any, ...]] = []

    def answering(name: str) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            calls.append((name, *arguments))
            return (2,) if name == fails else (0, *answers.get(name, (1,)))

        return call

    names = (
        *("cudaSetDevice", "cudaDeviceGetAttribute", "cudaStreamCreateWithFlags", "cudaStreamSynchronize"),
        *("cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost", "cudaHostGetDevicePointer", "cudaMemcpyAsync"),
        *("cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphDestroy"),
    )
    return SimpleNamespace(
        calls=calls,
        cudaGetErrorName=lambda status: (0, b"cudaErrorMemoryAllocation"),
        cudaDeviceAttr=SimpleNamespace(cudaDevAttrIntegrated=18),
        cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
        cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
        cudaHostAllocMapped=2, cudaHostAllocDefault=0, cudaStreamNonBlocking=1,
        **{name: answering(name) for name in names},
    )  # fmt: skip


def test_failed_call_is_named() -> None:
    cuda = CudaPython(runtime(fails="cudaMalloc"))
    with pytest.raises(EngineError, match="cudaMalloc: cudaErrorMemoryAllocation"):
        cuda.allocate(1 << 40)


def test_copies_name_both_ends_and_their_direction() -> None:
    module = runtime(cudaStreamCreateWithFlags=(77,))
    cuda, host = CudaPython(module), np.arange(4, dtype=np.uint8)
    cuda.upload(4096, host)
    cuda.download(host, 8192)
    up, down = (call for call in module.calls if call[0] == "cudaMemcpyAsync")
    assert up[1:] == (4096, host.ctypes.data, 4, 1, 77) and down[1:] == (host.ctypes.data, 8192, 4, 2, 77)


@pytest.mark.parametrize(("integrated", "flags", "address"), [(0, 0, 0), (1, 2, 4242)])
def test_host_memory_is_mapped_where_the_device_shares_it(integrated: int, flags: int, address: int) -> None:
    place = (ctypes.c_uint8 * 64)()
    answers = {"cudaHostAlloc": (ctypes.addressof(place),), "cudaHostGetDevicePointer": (4242,)}
    module = runtime(cudaDeviceGetAttribute=(integrated,), **answers)
    memory = CudaPython(module).host(64)
    memory.array[:] = 5
    assert bytes(place) == b"\x05" * 64 and memory.address == address
    assert ("cudaHostAlloc", 64, flags) in module.calls


def test_captured_graph_is_instantiated_and_its_template_given_back() -> None:
    module = runtime(cudaStreamEndCapture=("graph",), cudaGraphInstantiate=("ready",))
    cuda = CudaPython(module)
    cuda.begin_capture()
    assert cuda.end_capture() == "ready"
    assert [call[0] for call in module.calls[-2:]] == ["cudaGraphInstantiate", "cudaGraphDestroy"]


def test_cuda_python_without_a_driver_is_an_engine_error() -> None:
    module = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    status, count = module.cudaGetDeviceCount()
    if int(status) == 0 and count > 0:
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(EngineError, match="cudaSetDevice"):
        CudaPython(module)


def test_the_first_package_that_is_there_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def imported(name: str) -> Any:
        asked.append(name)
        if name != "cuda.cudart":
            raise ModuleNotFoundError(name)
        return runtime()

    monkeypatch.setattr(seam, "import_module", imported)
    assert isinstance(open_cuda(), CudaPython) and asked == ["cuda.bindings.runtime", "cuda.cudart"]


def test_no_package_at_all_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def imported(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(seam, "import_module", imported)
    with pytest.raises(DependencyError, match="cuda-python nor pycuda"):
        open_cuda()


class PyCudaError(Exception):
    """Stands for pycuda.driver.Error."""


def driver(**changes: Any) -> Any:
    """Stand in for pycuda's module, as far as opening a device and taking memory go."""

    def failing(*_: Any) -> None:
        raise PyCudaError("cuMemAlloc failed: out of memory")

    context = SimpleNamespace(push=lambda: None, pop=lambda: None)
    device = SimpleNamespace(retain_primary_context=lambda: context, get_attribute=lambda which: 0)
    parts = {
        "init": lambda: None, "Device": lambda number: device, "Stream": lambda: SimpleNamespace(handle=9),
        "device_attribute": SimpleNamespace(INTEGRATED=18), "mem_alloc": failing, "Error": PyCudaError,
    }  # fmt: skip
    return SimpleNamespace(**{**parts, **changes})


def test_pycuda_serves_without_captures_and_names_its_failures() -> None:
    cuda = PyCuda(driver())
    assert not cuda.can_capture and cuda.stream == 9
    with pytest.raises(EngineError, match="cuMemAlloc failed"):
        cuda.allocate(1)
    with pytest.raises(EngineError, match="cannot capture"):
        cuda.begin_capture()
