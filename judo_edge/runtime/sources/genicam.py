"""GenICam cameras by harvesters and a GenTL producer that the camera's maker supplies (a .cti file). Knows no model.

Harvesters tells nobody of a camera that went, so its access status is polled; it starts again only as a new Harvester.
"""

from __future__ import annotations

import importlib
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.errors import CameraError, CameraFault, ConfigError, DependencyError, first_line
from judo_edge.runtime.sources.camera import Grabbed, Trigger
from judo_edge.runtime.sources.pixels import format_of_name, rgb_from_bytes
from judo_edge.runtime.sources.triggered import Feature, TriggeredCamera, VisionSettings

_OPEN = frozenset({1, 5})
"""GenTL's DEVICE_ACCESS_STATUS: read-write, opened read-write (GenTL 1.6, table of the device information commands)."""
_SLICE = 0.2
_AT_ONCE = 0.001


@dataclass
class _Opened:
    """Harvesters' objects of one opening."""

    harvester: Any
    acquirer: Any
    losses: _Losses


@dataclass
class _Losses:
    """Hears of buffers that came incomplete."""

    heard: int = 0
    told: int = 0


class GenICamCamera(TriggeredCamera):
    """One camera of a GenTL producer; `device` is a serial number or id."""

    def __init__(self, producer: Path, use: VisionSettings) -> None:
        """Name the producer's file; nothing is opened."""
        super().__init__(use)
        self.producer = producer
        self._opened: _Opened | None = None

    def open(self) -> None:
        """Load the producer, find the camera, set it up and start it, all anew; CameraError when it is not there."""
        self.close()
        harvester = self._harvester()
        try:
            acquirer = self._acquirer(harvester)
            self._set_up(acquirer)
            losses = _listen(acquirer)
            acquirer.start()
        except (CameraError, ConfigError):
            _reset(harvester)
            raise
        except Exception as error:  # producers raise their own kinds
            _reset(harvester)
            raise CameraError(
                CameraFault.UNPLUGGED, f"{self.name}: {first_line(error)}", "a camera", "check it"
            ) from error
        self._opened = _Opened(harvester, acquirer, losses)
        self._restart()

    def grab(self, timeout: float) -> Grabbed:
        """Return a frame; CameraError: timeout, incomplete (the frame is lost, and counted) or unplugged."""
        called_ns, opened = time.monotonic_ns(), self._reached()
        try:
            if self.fresh:
                self._drain(opened)
            if self.use.trigger is Trigger.SOFTWARE:
                self._fire(opened)
            elif self.fresh:
                return self._second(opened, called_ns, timeout)
            return self._next(opened, called_ns, timeout)
        except CameraError:
            raise
        except Exception as error:  # of the producer: the camera's state is unknown, so it must be opened again
            raise CameraError(
                CameraFault.UNPLUGGED, f"{self.name}: {first_line(error)}", "a frame", "check it"
            ) from error

    def check(self) -> None:
        """Raise CameraError when the access status says that the camera is gone."""
        self._reached()

    def close(self) -> None:
        """Stop the stream and let go of the camera and the producer."""
        opened, self._opened = self._opened, None
        if opened:
            for end in (opened.acquirer.stop, opened.acquirer.destroy):
                with suppress(Exception):  # the device may be gone
                    end()
            _reset(opened.harvester)

    def _harvester(self) -> Any:
        core = _harvesters()
        if not self.producer.is_file():
            raise ConfigError(f"no file {self.producer}", "a GenTL producer (.cti)", "install the camera maker's")
        harvester = core.Harvester()
        harvester.add_file(str(self.producer))
        harvester.update()
        return harvester

    def _acquirer(self, harvester: Any) -> Any:
        found = [(str(info.serial_number), str(info.id_)) for info in harvester.device_info_list]
        for index, names in enumerate(found):
            if not self.use.device or self.use.device in names:
                return harvester.create(index)
        listed = ", ".join(f"{serial} ({name})" for serial, name in found) or "none"
        raise CameraError(CameraFault.UNPLUGGED, f"{self.name} is not found", f"one of: {listed}", "check its link")

    def _set_up(self, acquirer: Any) -> None:
        acquirer.num_buffers = max(self.use.capacity, acquirer.min_num_buffers)
        nodes = acquirer.remote_device.node_map
        settings: dict[str, Feature] = {
            "AcquisitionMode": "Continuous",
            **self.use.features,
            **self._trigger_features(nodes),
        }
        for name, value in settings.items():
            _set_feature(nodes, name, value)
        format_of_name(str(nodes.PixelFormat.value))

    def _trigger_features(self, nodes: Any) -> dict[str, Feature]:
        if self.use.trigger is Trigger.FREE_RUN:
            return {"TriggerMode": "Off"} if nodes.has_node("TriggerMode") else {}
        selector: dict[str, Feature] = {"TriggerSelector": "FrameStart"} if nodes.has_node("TriggerSelector") else {}
        return {**selector, "TriggerMode": "On", "TriggerSource": self._trigger_source}

    def _reached(self) -> _Opened:
        if not self._opened:
            raise self._not_open()
        try:
            status = int(self._opened.acquirer.device.module.access_status)
        except Exception as error:  # the producer lost the device
            raise CameraError(CameraFault.UNPLUGGED, f"{self.name}: {first_line(error)}", "an answer") from error
        if status not in _OPEN:
            raise CameraError(CameraFault.UNPLUGGED, f"{self.name} has access status {status}", "an open camera")
        return self._opened

    def _fire(self, opened: _Opened) -> None:
        """Trigger once; a trigger that timed out may still bring its frame, so the stream begins anew before."""
        if self._trigger_open:
            opened.acquirer.stop()
            opened.acquirer.start()
            self._restart()
        self._trigger_open = True
        opened.acquirer.remote_device.node_map.TriggerSoftware.execute()

    def _second(self, opened: _Opened, called_ns: int, timeout: float) -> Grabbed:
        """Return the second frame to come: the one under way may have been captured before the call."""
        under_way = self._next(opened, called_ns, timeout)
        since_ns = time.monotonic_ns()
        self.num_dropped += 1
        grabbed = self._next(opened, called_ns, timeout)
        return replace(grabbed, captured_ns=since_ns, missed=under_way.missed + 1 + grabbed.missed)

    def _next(self, opened: _Opened, called_ns: int, timeout: float) -> Grabbed:
        in_order = self.use.trigger is not Trigger.SOFTWARE
        while True:
            left = timeout - (time.monotonic_ns() - called_ns) / 1e9
            buffer = opened.acquirer.try_fetch(timeout=max(_AT_ONCE, min(_SLICE, left)))
            if buffer:
                with buffer:
                    return self._grabbed(buffer, time.monotonic_ns() if in_order else called_ns)
            if opened.losses.heard > opened.losses.told:
                self._count_losses(opened)
                self._trigger_open = False
                raise CameraError(CameraFault.INCOMPLETE, f"a frame of {self.name}", "every packet", "check its link")
            self._reached()
            if left <= 0:
                raise self._too_late(timeout)

    def _drain(self, opened: _Opened) -> None:
        for _ in range(opened.acquirer.num_buffers):  # no more can wait
            buffer = opened.acquirer.try_fetch(timeout=_AT_ONCE)
            if not buffer:
                break
            with buffer:
                self._number(int(buffer.frame_id))
            self._drop()
        self._count_losses(opened)

    def _count_losses(self, opened: _Opened) -> None:
        """Count incomplete buffers; the gap in the next frame's number is what tells them as missed."""
        self.num_incomplete += opened.losses.heard - opened.losses.told
        opened.losses.told = opened.losses.heard

    def _grabbed(self, buffer: Any, captured_ns: int) -> Grabbed:
        self._trigger_open = False
        number = self._number(int(buffer.frame_id))
        part = buffer.payload.components[0]
        image = rgb_from_bytes(
            np.asarray(part.data, dtype=np.uint8),
            int(part.height),
            int(part.width),
            format_of_name(str(part.data_format)),
        )
        return Grabbed(image, captured_ns, number, missed=self._take_missed())


def _set_feature(nodes: Any, name: str, value: Feature) -> None:
    if not nodes.has_node(name):
        raise ConfigError(f"no feature {name}", "one that the camera has", "see its manual")
    try:
        node = nodes.get_node(name)
        if node.value != value:  # one that has its value may be read-only
            node.value = value
    except Exception as error:  # GenApi raises a kind for each reason
        raise ConfigError(f"feature {name} = {value!r}: {first_line(error)}", "one that the camera has") from error


def _listen(acquirer: Any) -> _Losses:
    losses = _Losses()

    def emit(_self: Any, _context: Any) -> None:
        losses.heard += 1

    listener = type("Losses", (_harvesters().Callback,), {"emit": emit})
    acquirer.add_callback(acquirer.Events.INCOMPLETE_BUFFER, listener())
    return losses


def _harvesters() -> Any:
    try:
        return importlib.import_module("harvesters.core")
    except ImportError as error:
        raise DependencyError("harvesters is not installed", "", "pip install 'judo-edge[genicam]'") from error


def _reset(harvester: Any) -> None:
    with suppress(Exception):  # nothing can be done about a producer that will not end
        harvester.reset()
