"""The seam to CUDA through pycuda, for a device that has it and not cuda-python. It cannot capture graphs.

Receives pycuda's `driver` module; imports nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from judo_edge.errors import EngineError
from judo_edge.runtime.engines.backend import Array
from judo_edge.runtime.engines.cuda import HostMemory

_NO_CAPTURE = EngineError("pycuda cannot capture CUDA graphs", "cuda-python", "pip install cuda-python")


class PyCuda:
    """CUDA's driver through pycuda, in the device's primary context, which TensorRT uses too."""

    can_capture = False

    def __init__(self, driver: Any) -> None:
        """Take the module and open the first device."""
        self._driver = driver
        self._blocks: dict[int, Any] = {}
        with self._named():
            driver.init()
            device = driver.Device(0)
            self._context = device.retain_primary_context()
            self._context.push()
            self.is_integrated = bool(device.get_attribute(driver.device_attribute.INTEGRATED))
            self._stream = driver.Stream()
            self.stream = int(self._stream.handle)

    def free_bytes(self) -> int:
        """Return the device memory that is free."""
        with self._named():
            return int(self._driver.mem_get_info()[0])

    def allocate(self, num_bytes: int) -> int:
        """Return device memory."""
        with self._named():
            block = self._driver.mem_alloc(num_bytes)
        self._blocks[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        """Give it back."""
        with self._named():
            self._blocks.pop(address).free()

    def host(self, num_bytes: int) -> HostMemory:
        """Return page-locked memory."""
        flags = self._driver.host_alloc_flags.DEVICEMAP if self.is_integrated else 0
        with self._named():
            array = self._driver.pagelocked_empty(num_bytes, np.uint8, mem_flags=flags)
            return HostMemory(array, int(array.base.get_device_pointer()) if self.is_integrated else 0)

    def free_host(self, memory: HostMemory) -> None:
        """Give it back."""
        with self._named():
            memory.array.base.free()  # type: ignore[union-attr]  # pycuda's allocation owns the array

    def upload(self, address: int, content: Array) -> None:
        """Queue a copy to the device."""
        with self._named():
            self._driver.memcpy_htod_async(address, content, self._stream)

    def download(self, content: Array, address: int) -> None:
        """Queue a copy from the device."""
        with self._named():
            self._driver.memcpy_dtoh_async(content, address, self._stream)

    def clear(self, address: int, num_bytes: int) -> None:
        """Queue a fill with zeros."""
        with self._named():
            self._driver.memset_d8_async(address, 0, num_bytes, self._stream)

    def synchronize(self) -> None:
        """Wait for the stream."""
        with self._named():
            self._stream.synchronize()

    def begin_capture(self) -> None:
        """Refuse: pycuda has no captures."""
        raise _NO_CAPTURE

    def end_capture(self) -> object:
        """Refuse, as above."""
        raise _NO_CAPTURE

    def launch(self, graph: object) -> None:
        """Refuse, as above."""
        raise _NO_CAPTURE

    def release(self, graph: object) -> None:
        """Refuse, as above."""
        raise _NO_CAPTURE

    def mark(self) -> object:
        """Queue an event."""
        with self._named():
            return self._driver.Event().record(self._stream)

    def seconds(self, begin: Any, end: Any) -> float:
        """Return the time between two events; pycuda counts in milliseconds."""
        with self._named():
            return float(end.time_since(begin)) / 1000

    def close(self) -> None:
        """Leave the context."""
        with self._named():
            self._context.pop()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn pycuda's errors, whose text begins with the call's name, into EngineError."""
        try:
            yield
        except self._driver.Error as error:
            raise EngineError(str(error), "a CUDA device that answers", "check the driver with nvidia-smi") from error
