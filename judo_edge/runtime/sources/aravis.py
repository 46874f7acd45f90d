"""GigE Vision and USB3 Vision cameras by Aravis. Knows the stream's order of frames, triggers and loss; no model.

The library receives in its own thread into a ring of buffers, oldest first. So a frame that must be fresh is asked
for after the ring has been emptied, and what a trigger that timed out still brings is thrown away before the next
one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from judo_edge.core import Image
from judo_edge.errors import CameraError, CameraFault, ConfigError
from judo_edge.runtime.sources.aravislib import (
    CONTINUOUS,
    PACKET_SOCKET_DISABLED,
    Address,
    AravisLibrary,
    BufferStatus,
    aravis_library,
)
from judo_edge.runtime.sources.camera import Grabbed, Trigger
from judo_edge.runtime.sources.pixels import format_of_code, format_of_name, rgb_from_bytes
from judo_edge.runtime.sources.triggered import Feature, TriggeredCamera, VisionSettings
from judo_edge.runtime.sources.waiting import WaitingPolicy

_SLICE_US = 200_000
_WARM_UPS, _WARM_UP_TIMEOUT = 3, 3.0
_FRAMES = frozenset(BufferStatus) - {
    *(BufferStatus.UNKNOWN, BufferStatus.CLEARED, BufferStatus.FILLING, BufferStatus.ABORTED),
}


@dataclass(frozen=True)
class StreamCounts:
    """What became of the frames of one opening, by the library's own counting."""

    completed: int
    failed: int
    """Frames that lost packets."""
    no_buffer: int
    """Packets, not frames, that found every buffer waiting to be read."""


@dataclass
class _Opened:
    """The library's objects of one opening."""

    camera: Address
    stream: Address
    end_listening: Callable[[], None]
    lost: threading.Event


class AravisCamera(TriggeredCamera):
    """One camera; `device` is an id that `arv-tool-0.8` shows, or an address."""

    def __init__(self, use: VisionSettings, packet_socket: bool = True, socket_buffer: int = 8 << 20) -> None:
        """Nothing is opened.

        `packet_socket` False receives by UDP sockets, which the loopback device needs; those have `socket_buffer`
        bytes, which the system caps (net.core.rmem_max).
        """
        super().__init__(use)
        self.packet_socket, self.socket_buffer = packet_socket, socket_buffer
        self._opened: _Opened | None = None

    def open(self) -> None:
        """Find the camera, set it up and start its stream; CameraError when it is not there or is another's."""
        self.close()
        library = aravis_library()
        camera = library.call("arv_camera_new", self.use.device.encode() or None)
        if not camera:
            raise CameraError(CameraFault.UNPLUGGED, f"{self.name} is not found", "a camera", "see arv-tool-0.8")
        try:
            self._opened = self._start(library, camera)
        except BaseException:
            library.unref(camera)
            raise
        self._warm_up()

    def grab(self, timeout: float) -> Grabbed:
        """Return a frame; CameraError: timeout, incomplete (the frame is lost, and counted) or unplugged.

        A software trigger that the camera does not answer takes longer than `timeout`: the library asks for 2.5 s.
        """
        opened, library, called_ns = self._reached(), aravis_library(), time.monotonic_ns()
        if self.use.trigger is Trigger.SOFTWARE:
            self._fire(library, opened)
        elif self.fresh:
            self._drain(library, opened)
        while True:
            buffer = self._pop(library, opened, called_ns, timeout)
            try:
                captured_ns = _captured_ns(library, buffer)
                if _is_frame(library, buffer) and not (self.fresh and captured_ns < called_ns):
                    return self._grabbed(library, buffer, captured_ns)
                self._pass_over(library, buffer)
            finally:
                library.plain("arv_stream_push_buffer", opened.stream, buffer)

    def _warm_up(self) -> None:
        """Throw the first whole frame away: the receive buffer grows with it, and an open camera must deliver."""
        self._restart()
        for attempt in range(_WARM_UPS if self.use.trigger is not Trigger.HARDWARE else 0):
            try:
                self.grab(_WARM_UP_TIMEOUT)
                break
            except CameraError as error:
                if error.fault is not CameraFault.INCOMPLETE or attempt + 1 == _WARM_UPS:
                    self.close()
                    raise
        self._take_missed()

    def check(self) -> None:
        """Raise CameraError when the heartbeat found the camera gone."""
        self._reached()

    def counts(self) -> StreamCounts:
        """Return the library's own counts of this opening; CameraError when the camera is not open."""
        return StreamCounts(*aravis_library().statistics(self._reached().stream))

    def close(self) -> None:
        """Stop the stream and let go of the camera."""
        opened, self._opened = self._opened, None
        if not opened:
            return
        library = aravis_library()
        opened.end_listening()
        if opened.lost.is_set():  # the library asks the device that is gone for seconds before it gives up
            threading.Thread(target=_let_go, args=(library, opened), daemon=True).start()
        else:
            with suppress(CameraError):
                library.call("arv_camera_stop_acquisition", opened.camera)
            _let_go(library, opened)

    def _start(self, library: AravisLibrary, camera: Address) -> _Opened:
        self._set_up(library, camera)
        payload, stream = library.call("arv_camera_get_payload", camera), self._stream(library, camera)
        for _ in range(self.use.capacity):
            library.plain("arv_stream_push_buffer", stream, library.plain("arv_buffer_new_allocate", payload))
        try:
            library.call("arv_camera_start_acquisition", camera)
        except BaseException:
            library.unref(stream)
            raise
        lost = threading.Event()
        return _Opened(camera, stream, library.on_control_lost(camera, lost.set), lost)

    def _stream(self, library: AravisLibrary, camera: Address) -> Address:
        by_network = library.plain("arv_camera_is_gv_device", camera)
        if by_network and not self.packet_socket:
            library.plain("arv_camera_gv_set_stream_options", camera, PACKET_SOCKET_DISABLED)
        stream: Address = library.call("arv_camera_create_stream", camera, None, None)
        if by_network:
            library.set_socket_buffer(stream, self.socket_buffer)
        return stream

    def _set_up(self, library: AravisLibrary, camera: Address) -> None:
        library.call("arv_camera_set_acquisition_mode", camera, CONTINUOUS)
        for name, value in self.use.features.items():
            _set_feature(library, camera, name, value)
        if self.use.trigger is Trigger.FREE_RUN:
            library.call("arv_camera_clear_triggers", camera)
        else:
            library.call("arv_camera_set_trigger", camera, self._trigger_source.encode())
        format_of_name(library.call("arv_camera_get_pixel_format_as_string", camera).decode())

    def _reached(self) -> _Opened:
        if not self._opened:
            raise self._not_open()
        if self._opened.lost.is_set():
            raise CameraError(CameraFault.UNPLUGGED, f"{self.name} does not answer", "its heartbeat", "check its link")
        return self._opened

    def _fire(self, library: AravisLibrary, opened: _Opened) -> None:
        """Trigger once, after everything that an earlier trigger may still bring is out of the way."""
        try:
            if self._trigger_open:
                library.call("arv_camera_stop_acquisition", opened.camera)
                library.call("arv_camera_start_acquisition", opened.camera)
                self._restart()
            self._drain(library, opened)
            self._trigger_open = True
            library.call("arv_camera_software_trigger", opened.camera)
        except CameraError:
            opened.lost.set()  # it answers no command: the next call must not wait for it again
            raise

    def _drain(self, library: AravisLibrary, opened: _Opened) -> None:
        """Pass over the frames that wait."""
        while buffer := library.plain("arv_stream_try_pop_buffer", opened.stream):
            self._pass_over(library, buffer)
            library.plain("arv_stream_push_buffer", opened.stream, buffer)

    def _pop(self, library: AravisLibrary, opened: _Opened, called_ns: int, timeout: float) -> Address:
        """Wait for the next buffer in slices, so that a camera that goes meanwhile is noticed."""
        deadline_ns = called_ns + int(timeout * 1e9)
        while True:
            left_us = max(0, (deadline_ns - time.monotonic_ns()) // 1000)
            if buffer := library.plain("arv_stream_timeout_pop_buffer", opened.stream, min(left_us, _SLICE_US)):
                return self._newest(library, opened, int(buffer))
            self._reached()
            if not left_us:
                raise self._too_late(timeout)

    def _newest(self, library: AravisLibrary, opened: _Opened, buffer: Address) -> Address:
        """Return the newest of the frames that wait where the policy drops the oldest."""
        while self.use.policy is WaitingPolicy.DROP_OLDEST:
            newer = library.plain("arv_stream_try_pop_buffer", opened.stream)
            if not newer:
                break
            self._pass_over(library, buffer)
            library.plain("arv_stream_push_buffer", opened.stream, buffer)
            buffer = newer
        return buffer

    def _grabbed(self, library: AravisLibrary, buffer: Address, captured_ns: int) -> Grabbed:
        self._trigger_open = False
        status = BufferStatus(library.plain("arv_buffer_get_status", buffer))
        if status is not BufferStatus.SUCCESS:
            self.num_incomplete += 1
            found = f"a frame of {self.name}: {status.name.lower().replace('_', ' ')}"
            raise CameraError(
                CameraFault.INCOMPLETE, found, "every packet", "raise the packet size or the socket buffer"
            )
        number = self._number(_frame_id(library, buffer))
        return Grabbed(_image(library, buffer), captured_ns, number, missed=self._take_missed())

    def _pass_over(self, library: AravisLibrary, buffer: Address) -> None:
        """Count a whole frame; a torn one may bear the id of an earlier frame: the next number's gap counts it."""
        status = library.plain("arv_buffer_get_status", buffer)
        if status == BufferStatus.SUCCESS:
            self._number(_frame_id(library, buffer))
            self._drop()
        self.num_incomplete += status in _FRAMES and status != BufferStatus.SUCCESS


def _let_go(library: AravisLibrary, opened: _Opened) -> None:
    library.unref(opened.stream)
    library.unref(opened.camera)


def _frame_id(library: AravisLibrary, buffer: Address) -> int:
    return int(library.plain("arv_buffer_get_frame_id", buffer))


def _is_frame(library: AravisLibrary, buffer: Address) -> bool:
    """Tell a frame, whole or not, from a buffer that a stop gave back empty."""
    return library.plain("arv_buffer_get_status", buffer) in _FRAMES


def _captured_ns(library: AravisLibrary, buffer: Address) -> int:
    """Return when the frame's first packet came, on the monotonic clock: its age now by the clock of the library."""
    age_ns = time.time_ns() - int(library.plain("arv_buffer_get_system_timestamp", buffer))
    return time.monotonic_ns() - max(0, age_ns)


def _image(library: AravisLibrary, buffer: Address) -> Image:
    form = format_of_code(library.plain("arv_buffer_get_image_pixel_format", buffer))
    width, height = (library.plain(f"arv_buffer_get_image_{side}", buffer) for side in ("width", "height"))
    return rgb_from_bytes(library.image_bytes(buffer), height, width, form)


def _set_feature(library: AravisLibrary, camera: Address, name: str, value: Feature) -> None:
    if type(value) is int:
        try:
            library.call("arv_camera_set_integer", camera, name.encode(), value)
        except ConfigError:  # TOML's 25 may be meant for a feature of floats
            library.call("arv_camera_set_float", camera, name.encode(), float(value))
        return
    kind = {bool: "boolean", float: "float", str: "string"}[type(value)]
    library.call(f"arv_camera_set_{kind}", camera, name.encode(), value.encode() if isinstance(value, str) else value)
