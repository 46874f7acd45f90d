"""What the NVIDIA driver of this machine says: version and compute capability, asked through its own C library.

Needs no CUDA package. Knows nothing of TensorRT. Where there is no driver or no GPU the answer is None, not an error.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver describes it."""

    compute_capability: str
    """For example `8.7`."""
    driver: str
    """CUDA version that the driver supports, for example `12.6`."""


def gpu_of_driver(device: int = 0) -> Gpu | None:
    """Return what the driver says of a device; None without a driver or without that device."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    if library.cuInit(0) != 0:
        return None
    version, handle = ctypes.c_int(), ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) or library.cuDeviceGet(ctypes.byref(handle), device):
        return None
    parts = [_attribute(library, handle, which) for which in (_MAJOR, _MINOR)]
    if None in parts:
        return None
    return Gpu(f"{parts[0]}.{parts[1]}", f"{version.value // 1000}.{version.value % 1000 // 10}")


def _attribute(library: ctypes.CDLL, device: ctypes.c_int, which: int) -> int | None:
    value = ctypes.c_int()
    failed = library.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return None if failed else value.value
