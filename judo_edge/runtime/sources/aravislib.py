"""A thin binding of libaravis 0.8: the few functions that a camera needs, with their errors. Knows no policy.

By ctypes, because PyGObject is neither a wheel nor visible in a virtual environment; the shared library alone is
enough (Debian and Ubuntu, so JetPack too: `apt install libaravis-0.8-0`). Objects are addresses; the caller unrefs
what it makes. Signatures: Aravis 0.8 reference manual, ArvCamera, ArvStream, ArvBuffer.
"""

from __future__ import annotations

import ctypes as c
from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from judo_edge.errors import CameraError, CameraFault, ConfigError, DependencyError

Address = int
PACKET_SOCKET_DISABLED = 1
"""ARV_GV_STREAM_OPTION_PACKET_SOCKET_DISABLED: receive by UDP sockets, as loopback needs."""
_SOCKET_BUFFER_FIXED = 0
"""ARV_GV_STREAM_SOCKET_BUFFER_FIXED."""
CONTINUOUS = 0
"""ARV_ACQUISITION_MODE_CONTINUOUS."""


class BufferStatus(IntEnum):
    """ArvBufferStatus: what became of a frame."""

    UNKNOWN = -1
    SUCCESS = 0
    CLEARED = 1
    TIMEOUT = 2
    MISSING_PACKETS = 3
    WRONG_PACKET_ID = 4
    SIZE_MISMATCH = 5
    FILLING = 6
    ABORTED = 7
    PAYLOAD_NOT_SUPPORTED = 8


_NOT_THE_LINK = frozenset({0, 1, 7, 8})
"""ArvDeviceError: wrong feature, feature not found, invalid parameter, no GenICam description."""


class _GError(c.Structure):
    _fields_ = (("domain", c.c_uint32), ("code", c.c_int), ("message", c.c_char_p))


_P, _S, _ERROR = c.c_void_p, c.c_char_p, c.POINTER(c.POINTER(_GError))
_OnLost = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p)

_PLAIN: dict[str, tuple[Any, ...]] = {  # result, arguments
    "arv_camera_get_device": (_P, _P),
    "arv_camera_gv_set_stream_options": (None, _P, c.c_int),
    "arv_camera_is_gv_device": (c.c_int, _P),
    "arv_device_error_quark": (c.c_uint32,),
    "arv_buffer_new_allocate": (_P, c.c_size_t),
    "arv_buffer_get_status": (c.c_int, _P),
    "arv_buffer_get_frame_id": (c.c_uint64, _P),
    "arv_buffer_get_system_timestamp": (c.c_uint64, _P),
    "arv_buffer_get_image_pixel_format": (c.c_uint32, _P),
    "arv_buffer_get_image_width": (c.c_int, _P),
    "arv_buffer_get_image_height": (c.c_int, _P),
    "arv_buffer_get_image_data": (_P, _P, c.POINTER(c.c_size_t)),
    "arv_stream_push_buffer": (None, _P, _P),
    "arv_stream_try_pop_buffer": (_P, _P),
    "arv_stream_timeout_pop_buffer": (_P, _P, c.c_uint64),
    "arv_stream_get_statistics": (None, _P, c.POINTER(c.c_uint64), c.POINTER(c.c_uint64), c.POINTER(c.c_uint64)),
}
_FALLIBLE: dict[str, tuple[Any, ...]] = {  # the same, with a GError as the last argument
    "arv_camera_new": (_P, _S),
    "arv_camera_create_stream": (_P, _P, _P, _P),
    "arv_camera_get_payload": (c.c_uint, _P),
    "arv_camera_get_pixel_format_as_string": (_S, _P),
    "arv_camera_set_acquisition_mode": (None, _P, c.c_int),
    "arv_camera_clear_triggers": (None, _P),
    "arv_camera_set_trigger": (None, _P, _S),
    "arv_camera_software_trigger": (None, _P),
    "arv_camera_start_acquisition": (None, _P),
    "arv_camera_stop_acquisition": (None, _P),
    "arv_camera_set_string": (None, _P, _S, _S),
    "arv_camera_set_integer": (None, _P, _S, c.c_int64),
    "arv_camera_set_float": (None, _P, _S, c.c_double),
    "arv_camera_set_boolean": (None, _P, _S, c.c_int),
    "arv_camera_execute_command": (None, _P, _S),
}


class AravisLibrary:
    """libaravis and the GObject functions beside it."""

    def __init__(self) -> None:
        """Load the libraries; DependencyError when they are not installed."""
        try:
            self._library = c.CDLL("libaravis-0.8.so.0")
            self._gobject = c.CDLL("libgobject-2.0.so.0")
            self._glib = c.CDLL("libglib-2.0.so.0")
        except OSError as error:
            raise DependencyError(f"no libaravis: {error}", "Aravis 0.8", "apt install libaravis-0.8-0") from error
        for name, (result, *arguments) in _PLAIN.items():
            self._declare(name, result, arguments)
        for name, (result, *arguments) in _FALLIBLE.items():
            self._declare(name, result, [*arguments, _ERROR])
        self._gobject.g_object_unref.argtypes = [_P]
        self._gobject.g_signal_connect_data.argtypes = [_P, _S, _OnLost, _P, _P, c.c_int]
        self._gobject.g_signal_connect_data.restype = c.c_ulong
        self._gobject.g_signal_handler_disconnect.argtypes = [_P, c.c_ulong]
        self._glib.g_error_free.argtypes = [c.POINTER(_GError)]

    def plain(self, name: str, *arguments: Any) -> Any:
        """Call a function that cannot fail."""
        return getattr(self._library, name)(*arguments)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function that can fail: CameraError (unplugged) where the link does, ConfigError for a setting."""
        error = c.POINTER(_GError)()
        result = getattr(self._library, name)(*arguments, c.byref(error))
        if error:
            raise self._error(name, error)
        return result

    def _error(self, name: str, error: Any) -> CameraError | ConfigError:
        message = f"{name}: {(error.contents.message or b'').decode('utf-8', 'replace')}"
        is_device = error.contents.domain == self._library.arv_device_error_quark()
        is_link = is_device and error.contents.code not in _NOT_THE_LINK
        self._glib.g_error_free(error)
        if is_link:
            return CameraError(CameraFault.UNPLUGGED, message, "an answer of the camera", "check its link")
        return ConfigError(message, "a feature and value that the camera has", "see `arv-tool-0.8 features`")

    def unref(self, thing: Address) -> None:
        """Give one reference back."""
        self._gobject.g_object_unref(thing)

    def on_control_lost(self, camera: Address, hear: Callable[[], None]) -> Callable[[], None]:
        """Call `hear`, in a thread of the library, when the device has gone; return what ends that (to be kept)."""
        device = self.plain("arv_camera_get_device", camera)
        called = _OnLost(lambda _device, _data: hear())
        handler = self._gobject.g_signal_connect_data(device, b"control-lost", called, None, None, 0)

        def end(keep: Any = called) -> None:
            self._gobject.g_signal_handler_disconnect(device, handler)

        return end

    def image_bytes(self, buffer: Address) -> npt.NDArray[np.uint8]:
        """Return the bytes of a buffer's image without copying: valid until the buffer is pushed back."""
        size = c.c_size_t()
        data = self.plain("arv_buffer_get_image_data", buffer, c.byref(size))
        if not data or not size.value:
            return np.empty(0, np.uint8)
        return np.ctypeslib.as_array(c.cast(data, c.POINTER(c.c_uint8)), (size.value,))

    def set_socket_buffer(self, stream: Address, size: int) -> None:
        """Ask for `size` bytes of receive buffer for a GigE Vision stream; the system caps it (net.core.rmem_max)."""
        values = (b"socket-buffer", c.c_int(_SOCKET_BUFFER_FIXED), b"socket-buffer-size", c.c_int(size), None)
        self._gobject.g_object_set(c.c_void_p(stream), *values)

    def statistics(self, stream: Address) -> tuple[int, int, int]:
        """Return how many frames the stream completed, how many failed and how many found no buffer."""
        counts = [c.c_uint64() for _ in range(3)]
        self.plain("arv_stream_get_statistics", stream, *map(c.byref, counts))
        return counts[0].value, counts[1].value, counts[2].value

    def _declare(self, name: str, result: Any, arguments: list[Any]) -> None:
        function = getattr(self._library, name)
        function.restype, function.argtypes = result, arguments


@cache
def aravis_library() -> AravisLibrary:
    """Return the library, loaded once a process."""
    return AravisLibrary()
