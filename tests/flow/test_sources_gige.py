"""The Aravis source on a real GigE Vision stream over loopback, and harvesters on a real GenTL producer."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from judo_edge.errors import CameraError, CameraFault, ConfigError, DependencyError
from judo_edge.runtime.sources import aravislib
from judo_edge.runtime.sources.aravis import AravisCamera
from judo_edge.runtime.sources.camera import Trigger
from judo_edge.runtime.sources.genicam import GenICamCamera
from judo_edge.runtime.sources.reconnect import Backoff, Reconnecting
from judo_edge.runtime.sources.triggered import VisionSettings
from judo_edge.runtime.sources.waiting import WaitingPolicy
from tests.gvcamera import SimulatedCamera, needs_aravis, simulated_camera

GENEROUS = 60.0
SMALL = {"PixelFormat": "Mono8", "Width": 128, "Height": 96, "AcquisitionFrameRate": 50.0}
"""Small frames: loopback has no packet resend, and a UDP socket holds few packets."""


def _camera(simulated: SimulatedCamera, trigger: Trigger, policy: WaitingPolicy, **settings: Any) -> AravisCamera:
    features = SMALL | settings.pop("features", {})
    use = VisionSettings(simulated.device, trigger, "Line0", policy, features=features, **settings)
    return AravisCamera(use, packet_socket=False)


def _fault(call: Callable[[], object]) -> CameraFault:
    with pytest.raises(CameraError) as caught:
        call()
    return caught.value.fault


@needs_aravis
def test_a_software_trigger_gives_one_frame_each_and_it_is_fresh() -> None:
    with simulated_camera("S1") as simulated, _camera(simulated, Trigger.SOFTWARE, WaitingPolicy.WAIT) as camera:
        numbers = []
        for _ in range(5):
            asked_ns = time.monotonic_ns()
            grabbed = camera.grab(GENEROUS)
            assert grabbed.captured_ns >= asked_ns
            assert grabbed.image.shape == (96, 128, 3)
            numbers.append(grabbed.frame_number)
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        assert camera.num_incomplete == 0


@needs_aravis
def test_a_free_run_that_drops_gives_fresh_frames_and_counts_what_it_lost() -> None:
    with (
        simulated_camera("F1") as simulated,
        _camera(simulated, Trigger.FREE_RUN, WaitingPolicy.DROP_OLDEST, capacity=3) as camera,
    ):
        first = camera.grab(GENEROUS)
        dropped_before, last, missed = camera.num_dropped, first.frame_number, 0
        for _ in range(3):
            time.sleep(0.3)  # fifteen frames: more than the buffers hold
            asked_ns = time.monotonic_ns()
            grabbed = camera.grab(GENEROUS)
            assert grabbed.captured_ns >= asked_ns
            assert grabbed.frame_number == last + grabbed.missed + 1
            last, missed = grabbed.frame_number, missed + grabbed.missed
        assert missed >= 20
        assert camera.num_dropped - dropped_before == missed


@needs_aravis
def test_frames_that_wait_come_in_order() -> None:
    with simulated_camera("W1") as simulated, _camera(simulated, Trigger.FREE_RUN, WaitingPolicy.WAIT) as camera:
        camera.grab(GENEROUS)
        time.sleep(0.1)
        numbers = [camera.grab(GENEROUS).frame_number for _ in range(10)]
        assert numbers == list(range(numbers[0], numbers[0] + 10))
        assert camera.counts().failed == 0


@needs_aravis
def test_a_torn_frame_is_refused_and_counted_once() -> None:
    """A buffer that comes free in the middle of a frame makes a torn one; frames of a megabyte make that likely.

    The simulator's first pixel is its frame id modulo 255, so it says whether a number was made up; 65535, after which
    ids begin at 1 again, is a multiple of 255.
    """
    large = {"Width": 1024, "Height": 1024, "AcquisitionFrameRate": 25.0}
    with (
        simulated_camera("T1") as simulated,
        _camera(simulated, Trigger.FREE_RUN, WaitingPolicy.WAIT, capacity=3, features=large) as camera,
    ):
        last, torn, deadline = camera.grab(GENEROUS).frame_number, 0, time.monotonic() + GENEROUS
        while torn < 3 and time.monotonic() < deadline:
            time.sleep(0.17 + 0.0013 * (last % 30))
            for _ in range(5):
                try:
                    grabbed = camera.grab(GENEROUS)
                except CameraError as error:
                    assert error.fault is CameraFault.INCOMPLETE
                    torn += 1
                    continue
                assert grabbed.frame_number == last + grabbed.missed + 1
                assert grabbed.image[0, 0, 0] == grabbed.frame_number % 255
                last = grabbed.frame_number
        assert camera.num_incomplete == torn
        if not torn:
            pytest.skip("no frame was torn in a minute: this machine is too quick for that")


@needs_aravis
def test_colour_comes_as_rgb_and_other_formats_are_refused() -> None:
    with simulated_camera("C1") as simulated:
        for name in ("RGB8", "BayerRG8"):
            with _camera(simulated, Trigger.SOFTWARE, WaitingPolicy.WAIT, features={"PixelFormat": name}) as camera:
                image = camera.grab(GENEROUS).image
            assert image.shape == (96, 128, 3)
            assert not (image[..., 0] == image[..., 2]).all()
        for features in ({"PixelFormat": "Mono16"}, {"Nosuch": 1}, {"PixelFormat": "Nosuch"}):
            with pytest.raises(ConfigError):
                _camera(simulated, Trigger.SOFTWARE, WaitingPolicy.WAIT, features=features).open()


@needs_aravis
def test_a_hardware_trigger_that_does_not_come_is_a_timeout_and_the_camera_stays() -> None:
    with simulated_camera("H1") as simulated, _camera(simulated, Trigger.HARDWARE, WaitingPolicy.WAIT) as camera:
        assert _fault(lambda: camera.grab(0.5)) is CameraFault.TIMEOUT
        camera.check()


@needs_aravis
def test_a_camera_that_is_killed_is_unplugged_and_comes_back_when_it_is_there_again() -> None:
    with simulated_camera("K1") as simulated:
        inner = _camera(simulated, Trigger.SOFTWARE, WaitingPolicy.WAIT)
        with Reconnecting(inner, Backoff(0.1, 0.5)) as camera:
            before = camera.grab(GENEROUS)
            simulated.kill()
            assert _fault(lambda: camera.grab(1.0)) is CameraFault.UNPLUGGED
            assert not camera.is_open
            assert _fault(lambda: camera.grab(0.0)) is CameraFault.UNPLUGGED
            simulated.start()
            deadline = time.monotonic() + GENEROUS
            while not camera.tend():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            after = camera.grab(GENEROUS)
            assert after.missed == 0
            assert after.frame_number > before.frame_number
            assert camera.num_reconnects == 1


@needs_aravis
def test_a_camera_that_hangs_gives_no_frame_and_its_heartbeat_tells() -> None:
    with simulated_camera("Z1") as simulated, _camera(simulated, Trigger.FREE_RUN, WaitingPolicy.DROP_OLDEST) as camera:
        camera.grab(GENEROUS)
        simulated.send(signal.SIGSTOP)
        assert _fault(lambda: camera.grab(0.5)) is CameraFault.TIMEOUT
        assert _fault(lambda: camera.grab(GENEROUS)) is CameraFault.UNPLUGGED
        assert _fault(camera.check) is CameraFault.UNPLUGGED


@needs_aravis
def test_a_camera_that_another_holds_is_not_taken() -> None:
    with simulated_camera("A1") as simulated, _camera(simulated, Trigger.SOFTWARE, WaitingPolicy.WAIT) as camera:
        camera.grab(GENEROUS)
        with pytest.raises((CameraError, ConfigError)):
            _camera(simulated, Trigger.SOFTWARE, WaitingPolicy.WAIT).open()
        camera.grab(GENEROUS)


def test_a_machine_without_aravis_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(aravislib.c, "CDLL", missing)
    with pytest.raises(DependencyError, match="apt install libaravis"):
        aravislib.AravisLibrary()


@pytest.fixture
def producer() -> Path:
    """The GenTL producer that the genicam package brings: it draws a bouncing ball."""
    pytest.importorskip("harvesters", reason="harvesters is not installed (extra genicam)")
    genicam = pytest.importorskip("genicam", reason="genicam is not installed (extra genicam)")
    path = Path(str(genicam.__file__)).parent / "viky.cti"
    if not path.is_file():
        pytest.skip("this genicam package brings no GenTL producer")
    return path


def _gentl(producer: Path, device: str = "", trigger: Trigger = Trigger.FREE_RUN, **settings: Any) -> GenICamCamera:
    return GenICamCamera(producer, VisionSettings(device, trigger, **settings))


def test_a_gentl_producer_streams_and_opens_again(producer: Path) -> None:
    camera = _gentl(producer, "1", policy=WaitingPolicy.WAIT)
    for _ in range(2):
        with camera:
            frames = [camera.grab(GENEROUS) for _ in range(4)]
            camera.check()
        numbers = [frame.frame_number for frame in frames]
        assert numbers == list(range(numbers[0], numbers[0] + 4))
        assert [frame.missed for frame in frames] == [0] * 4
        assert frames[0].image.shape == (400, 400, 3)
        assert not (frames[0].image == frames[3].image).all()  # the ball moves
    assert _fault(camera.check) is CameraFault.UNPLUGGED


def test_a_gentl_camera_in_free_run_passes_over_what_waited(producer: Path) -> None:
    with _gentl(producer, "VikyTL_DEV_blue", features={"PixelFormat": "Mono8"}) as camera:
        first = camera.grab(GENEROUS)
        time.sleep(0.5)
        second = camera.grab(GENEROUS)
        assert second.missed >= 1
        assert second.frame_number == first.frame_number + second.missed + 1
        assert camera.num_dropped >= second.missed


def test_what_a_gentl_camera_has_not_is_refused(producer: Path, tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="VikyTL_DEV_red"):
        _gentl(producer, "nosuch").open()
    with pytest.raises(ConfigError, match="TriggerMode"):
        _gentl(producer, trigger=Trigger.SOFTWARE).open()  # this producer has no trigger
    with pytest.raises(ConfigError, match="Width"):
        _gentl(producer, features={"Width": -1}).open()
    with pytest.raises(ConfigError, match=r"none\.cti"):
        _gentl(tmp_path / "none.cti").open()
