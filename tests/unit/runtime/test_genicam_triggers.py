"""Harvesters' triggers and faults, over a stand-in: the producer that can be had has no trigger and never fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from judo_edge.errors import CameraError, CameraFault
from judo_edge.runtime.sources.camera import Trigger
from judo_edge.runtime.sources.genicam import GenICamCamera
from judo_edge.runtime.sources.triggered import VisionSettings
from judo_edge.runtime.sources.waiting import WaitingPolicy

pytest.importorskip("harvesters", reason="harvesters is not installed (extra genicam)")


class _Buffer:
    def __init__(self, frame_id: int) -> None:
        self.frame_id = frame_id
        pixels = np.full(12, frame_id % 256, np.uint8)
        part = SimpleNamespace(data=pixels, width=2, height=2, data_format="RGB8")
        self.payload = SimpleNamespace(components=[part])

    def __enter__(self) -> _Buffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.payload = None  # queued again: nobody may look at it now


class _Nodes:
    def __init__(self, fire: Callable[[], None]) -> None:
        names = ("AcquisitionMode", "TriggerSelector", "TriggerMode", "TriggerSource", "PixelFormat", "Gain")
        self.nodes = {name: SimpleNamespace(value="") for name in names}
        self.nodes["PixelFormat"].value = "RGB8"
        self.TriggerSoftware = SimpleNamespace(execute=fire)
        self.PixelFormat = self.nodes["PixelFormat"]

    def has_node(self, name: str) -> bool:
        return name in self.nodes

    def get_node(self, name: str) -> Any:
        return self.nodes[name]


class _Acquirer:
    """Gives the buffers that wait; a trigger adds what `triggered` says: a frame, "torn", or nothing."""

    Events = SimpleNamespace(INCOMPLETE_BUFFER="incomplete")

    def __init__(self) -> None:
        self.waiting: list[_Buffer | str] = []
        self.triggered: list[_Buffer | str | None] = []
        self.num_buffers = self.min_num_buffers = 3
        self.remote_device = SimpleNamespace(node_map=_Nodes(self.fire))
        self.device = SimpleNamespace(module=SimpleNamespace(access_status=5))
        self.num_starts = 0
        self.is_destroyed = False

    def fire(self) -> None:
        if (frame := self.triggered.pop(0)) is not None:
            self.waiting.append(frame)

    def add_callback(self, event: str, callback: Any) -> None:
        self.torn = callback

    def start(self) -> None:
        self.num_starts += 1

    def stop(self) -> None:
        self.waiting.clear()

    def destroy(self) -> None:
        self.is_destroyed = True

    def try_fetch(self, *, timeout: float) -> _Buffer | None:
        assert timeout > 0, "harvesters would wait for ever"
        if not self.waiting:
            time.sleep(min(timeout, 0.01))
            return None
        frame = self.waiting.pop(0)
        if isinstance(frame, str):
            self.torn.emit(None)
            return None
        return frame


class _Camera(GenICamCamera):
    acquirer: _Acquirer

    def _harvester(self) -> Any:
        self.acquirer = _Acquirer()
        info = SimpleNamespace(serial_number="7", id_="seven")
        return SimpleNamespace(device_info_list=[info], create=lambda _: self.acquirer, reset=lambda: None)


def _camera(trigger: Trigger, policy: WaitingPolicy = WaitingPolicy.DROP_OLDEST) -> _Camera:
    camera = _Camera(Path("x.cti"), VisionSettings("7", trigger, policy=policy))
    camera.open()
    return camera


def _fault(call: Callable[[], object]) -> CameraFault:
    with pytest.raises(CameraError) as caught:
        call()
    return caught.value.fault


def test_a_software_trigger_throws_away_what_waited() -> None:
    camera = _camera(Trigger.SOFTWARE)
    camera.acquirer.waiting = [_Buffer(1), _Buffer(2)]
    camera.acquirer.triggered = [_Buffer(3)]
    asked_ns = time.monotonic_ns()
    grabbed = camera.grab(10)
    assert (grabbed.frame_number, grabbed.missed, int(grabbed.image[0, 0, 0])) == (3, 2, 3)
    assert grabbed.captured_ns >= asked_ns
    nodes = camera.acquirer.remote_device.node_map.nodes
    assert [nodes[name].value for name in ("TriggerSelector", "TriggerMode", "TriggerSource")] == [
        "FrameStart",
        "On",
        "Software",
    ]


def test_the_late_frame_of_a_trigger_that_timed_out_is_not_taken_for_the_next() -> None:
    camera = _camera(Trigger.SOFTWARE)
    camera.acquirer.triggered = [None, _Buffer(9)]
    assert _fault(lambda: camera.grab(0.05)) is CameraFault.TIMEOUT
    assert camera.acquirer.num_starts == 1
    assert camera.grab(10).frame_number == 9
    assert camera.acquirer.num_starts == 2


def test_an_incomplete_buffer_is_refused_and_counted() -> None:
    camera = _camera(Trigger.SOFTWARE)
    camera.acquirer.triggered = ["torn", _Buffer(2)]
    assert _fault(lambda: camera.grab(10)) is CameraFault.INCOMPLETE
    assert camera.num_incomplete == 1
    assert camera.grab(10).frame_number == 2


def test_hardware_triggers_come_in_order_and_a_gap_is_a_missed_one() -> None:
    camera = _camera(Trigger.HARDWARE, WaitingPolicy.WAIT)
    camera.acquirer.waiting = [_Buffer(1), _Buffer(2), _Buffer(5)]
    assert [(one.frame_number, one.missed) for one in (camera.grab(10) for _ in range(3))] == [(1, 0), (2, 0), (5, 2)]
    assert camera.num_dropped == 2
    assert _fault(lambda: camera.grab(0.05)) is CameraFault.TIMEOUT


def test_a_free_run_passes_over_the_frame_under_way() -> None:
    camera = _camera(Trigger.FREE_RUN)
    acquirer = camera.acquirer
    acquirer.waiting = [_Buffer(1), _Buffer(2)]
    drained = acquirer.try_fetch

    def come(*, timeout: float) -> _Buffer | None:
        frame = drained(timeout=timeout)
        if frame is None and not acquirer.waiting:
            acquirer.waiting = [_Buffer(3), _Buffer(4)]
        return frame

    acquirer.try_fetch = come  # type: ignore[method-assign]
    asked_ns = time.monotonic_ns()
    grabbed = camera.grab(10)
    assert (grabbed.frame_number, grabbed.missed, camera.num_dropped) == (4, 3, 3)
    assert grabbed.captured_ns >= asked_ns


def test_a_camera_that_lost_its_access_is_unplugged() -> None:
    camera = _camera(Trigger.SOFTWARE)
    camera.acquirer.device.module.access_status = 3
    assert _fault(camera.check) is CameraFault.UNPLUGGED
    assert _fault(lambda: camera.grab(10)) is CameraFault.UNPLUGGED


def test_what_a_producer_raises_is_unplugged_and_closing_lets_go() -> None:
    camera = _camera(Trigger.SOFTWARE)

    def fail() -> None:
        raise RuntimeError("GC_ERR_IO")

    camera.acquirer.remote_device.node_map.TriggerSoftware.execute = fail
    assert _fault(lambda: camera.grab(10)) is CameraFault.UNPLUGGED
    camera.close()
    assert camera.acquirer.is_destroyed
