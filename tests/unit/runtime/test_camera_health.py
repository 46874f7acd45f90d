from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from judo_edge.errors import CameraError, CameraFault, ConfigError, JudoEdgeError
from judo_edge.runtime.sources.camera import Camera, Grabbed
from judo_edge.runtime.sources.health import FrozenDetector, Guarded, check_fresh
from judo_edge.runtime.sources.reconnect import Backoff, Reconnecting


def _grabbed(number: int, grey: int = 0, captured_ns: int | None = None) -> Grabbed:
    when = time.monotonic_ns() if captured_ns is None else captured_ns
    return Grabbed(np.full((4, 4, 3), grey, np.uint8), when, number)


class _Scripted(Camera):
    """Does what it is told, call by call; when nothing is left it gives frames, each another."""

    def __init__(self, grabs: list[JudoEdgeError | None] = [], opens: list[JudoEdgeError | None] = []) -> None:  # noqa: B006
        self.grabs, self.opens = list(grabs), list(opens)
        self.is_open, self.num_opens, self.num_closes, self.number = False, 0, 0, 0
        self.gone: CameraError | None = None

    def open(self) -> None:
        self.num_opens += 1
        if error := self.opens.pop(0) if self.opens else None:
            raise error
        self.is_open = True

    def grab(self, timeout: float) -> Grabbed:
        assert self.is_open
        if error := self.grabs.pop(0) if self.grabs else None:
            raise error
        self.number += 1
        return _grabbed(self.number, self.number % 256)

    def check(self) -> None:
        if self.gone:
            raise self.gone

    def close(self) -> None:
        self.is_open = False
        self.num_closes += 1


def _fault(fault: CameraFault) -> CameraError:
    return CameraError(fault, fault.value)


def _raised(call: Callable[[], object]) -> CameraFault:
    with pytest.raises(CameraError) as caught:
        call()
    return caught.value.fault


QUICK = Backoff(first=0.01, longest=0.02)
NEVER = Backoff(first=1000, longest=1000)


def test_identical_frames_in_a_row_are_frozen_and_others_are_not() -> None:
    detector = FrozenDetector(3)
    for grey in (1, 1, 2, 2, 1):
        detector.see(_grabbed(1, grey))
    detector.see(_grabbed(1, 1))
    assert _raised(lambda: detector.see(_grabbed(1, 1))) is CameraFault.FROZEN
    assert _raised(lambda: detector.see(_grabbed(1, 1))) is CameraFault.FROZEN
    detector.see(_grabbed(1, 2))


def test_one_pixel_makes_two_frames() -> None:
    detector = FrozenDetector(2)
    first, second = _grabbed(1), _grabbed(2)
    second.image[3, 3, 2] += 1
    detector.see(first)
    detector.see(second)
    assert _raised(lambda: detector.see(second)) is CameraFault.FROZEN
    detector.see(first)


def test_frozen_is_off_at_zero_and_one_is_refused() -> None:
    detector = FrozenDetector(0)
    for _ in range(100):
        detector.see(_grabbed(1))
    with pytest.raises(ValueError, match="cannot be called frozen"):
        FrozenDetector(1)


def test_a_frame_from_before_its_request_is_stale() -> None:
    check_fresh(_grabbed(1, captured_ns=100), 100)
    assert _raised(lambda: check_fresh(_grabbed(1, captured_ns=99), 100)) is CameraFault.STALE


class _Old(_Scripted):
    fresh = True  # it promises what it does not keep

    def grab(self, timeout: float) -> Grabbed:
        return _grabbed(1, captured_ns=time.monotonic_ns() - 10**9)


class _Same(_Scripted):
    def grab(self, timeout: float) -> Grabbed:
        return _grabbed(1)


def test_the_guard_lets_no_stale_or_frozen_frame_pass() -> None:
    assert _raised(lambda: Guarded(_Old()).grab(1)) is CameraFault.STALE
    frozen = Guarded(_Same(), frozen_after=2)
    frozen.grab(1)
    assert _raised(lambda: frozen.grab(1)) is CameraFault.FROZEN


def test_an_unplugged_camera_comes_back() -> None:
    inner = _Scripted([None, _fault(CameraFault.UNPLUGGED)], [None, _fault(CameraFault.UNPLUGGED)])
    camera = Reconnecting(inner, QUICK)
    with camera:
        assert camera.grab(1).frame_number == 1
        assert _raised(lambda: camera.grab(1)) is CameraFault.UNPLUGGED
        assert not camera.is_open
        assert camera.grab(10).frame_number == 2  # one attempt fails, the next is within the time
        assert (camera.num_reconnects, inner.num_opens, camera.num_faults) == (1, 3, 2)
    assert not inner.is_open


def test_a_camera_that_is_away_answers_at_once_and_is_not_asked() -> None:
    inner = _Scripted(opens=[_fault(CameraFault.UNPLUGGED)])
    camera = Reconnecting(inner, NEVER)
    camera.open()
    began = time.monotonic()
    for _ in range(10):
        assert _raised(lambda: camera.grab(100)) is CameraFault.UNPLUGGED
    assert time.monotonic() - began < 100
    assert inner.num_opens == 1
    assert not camera.tend()
    assert _raised(camera.check) is CameraFault.UNPLUGGED


@pytest.mark.parametrize(
    ("fault", "stays_open"),
    [(CameraFault.TIMEOUT, 1), (CameraFault.INCOMPLETE, 2), (CameraFault.STALE, 2), (CameraFault.UNREADABLE, 50)],
)
def test_a_single_fault_of_a_frame_is_no_reason_to_reopen(fault: CameraFault, stays_open: int) -> None:
    inner = _Scripted([_fault(fault)] * (stays_open + 1))
    camera = Reconnecting(inner, NEVER)
    camera.open()
    for _ in range(stays_open):
        assert _raised(lambda: camera.grab(1)) is fault
    assert camera.is_open
    assert _raised(lambda: camera.grab(1)) is fault
    assert camera.is_open is (fault is CameraFault.UNREADABLE)


def test_a_good_frame_ends_a_row_of_faults() -> None:
    timeout = _fault(CameraFault.TIMEOUT)
    camera = Reconnecting(_Scripted([timeout, None, timeout, None, timeout]), NEVER)
    camera.open()
    for index in range(5):
        if index % 2:
            camera.grab(1)
        else:
            assert _raised(lambda: camera.grab(1)) is CameraFault.TIMEOUT
    assert camera.is_open


def test_a_camera_that_stays_frozen_gives_no_frame_and_is_not_opened_without_end() -> None:
    inner = _Same()
    camera = Reconnecting(Guarded(inner, frozen_after=2), NEVER)
    camera.open()
    camera.grab(1)
    assert _raised(lambda: camera.grab(1)) is CameraFault.FROZEN
    for _ in range(10):
        assert _raised(lambda: camera.grab(1)) is CameraFault.FROZEN
    assert inner.num_opens == 2  # once at once, then with pauses
    assert camera.num_reconnects == 1


def test_tending_notices_and_brings_back_without_a_frame() -> None:
    inner = _Scripted()
    camera = Reconnecting(inner, QUICK)
    camera.open()
    assert camera.tend()
    inner.gone = _fault(CameraFault.UNPLUGGED)
    assert not camera.tend()
    inner.gone = None
    deadline = time.monotonic() + 30
    while not camera.tend():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert camera.num_reconnects == 1


def test_pauses_grow_to_their_limit_and_vary() -> None:
    backoff = Backoff(1.0, 8.0)
    for attempt, pause in enumerate((1.0, 2.0, 4.0, 8.0, 8.0, 8.0), start=1):
        pauses = [backoff.pause(attempt) for _ in range(50)]
        assert all(pause / 2 <= one <= pause for one in pauses)
        assert len(set(pauses)) > 1
    assert backoff.pause(10_000) <= 8.0


def test_a_stop_ends_a_pause() -> None:
    inner = _Scripted(opens=[_fault(CameraFault.UNPLUGGED)])
    camera = Reconnecting(inner, Backoff(50, 50))
    camera.open()
    faults: list[CameraFault] = []
    grabbing = threading.Thread(target=lambda: faults.append(_raised(lambda: camera.grab(1000))), daemon=True)
    grabbing.start()
    camera.stop.set()
    grabbing.join(40)
    assert faults == [CameraFault.UNPLUGGED]


def test_a_wrong_setting_is_told_at_the_first_open_and_is_a_fault_later() -> None:
    wrong = ConfigError("feature Gain = 99", "0..24")
    with pytest.raises(ConfigError):
        Reconnecting(_Scripted(opens=[wrong])).open()
    camera = Reconnecting(_Scripted([_fault(CameraFault.UNPLUGGED)], [None, wrong]), QUICK)
    camera.open()
    assert _raised(lambda: camera.grab(1)) is CameraFault.UNPLUGGED
    camera.grab(10)
    assert camera.num_reconnects == 1
