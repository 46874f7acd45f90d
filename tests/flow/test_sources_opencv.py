"""OpenCV and GStreamer sources on real files, streams and processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from judo_edge.errors import CameraError, CameraFault, ConfigError, DependencyError
from judo_edge.runtime.sources.camera import Camera
from judo_edge.runtime.sources.gstreamer import GStreamerCamera
from judo_edge.runtime.sources.opencv import OpenCvCamera
from judo_edge.runtime.sources.reconnect import Backoff, Reconnecting
from judo_edge.runtime.sources.settings import OpenCvSettings, camera_from_settings
from judo_edge.runtime.sources.threaded import Pixels, ThreadedCamera
from judo_edge.runtime.sources.waiting import WaitingPolicy
from tests.rtspserver import needs_rtsp_server, rtsp_server

needs_gstreamer = pytest.mark.skipif(
    not shutil.which("gst-launch-1.0"), reason="gst-launch-1.0 is not installed (apt install gstreamer1.0-tools)"
)
LIVE = "videotestsrc is-live=true pattern=ball ! video/x-raw,framerate=30/1"
GENEROUS = 60.0


def _fault(call: Callable[[], object]) -> CameraFault:
    with pytest.raises(CameraError) as caught:
        call()
    return caught.value.fault


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of 64x48, each of one grey value: 20, 40, ... 200."""
    path = tmp_path_factory.mktemp("video") / "ten.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    assert writer.isOpened()
    for number in range(1, 11):
        writer.write(np.full((48, 64, 3), number * 20, np.uint8))
    writer.release()
    return path


def test_a_video_file_gives_every_frame_in_order_and_ends(video: Path) -> None:
    with OpenCvCamera(str(video)) as camera:
        frames = [camera.grab(GENEROUS) for _ in range(10)]
        assert _fault(lambda: camera.grab(GENEROUS)) is CameraFault.UNPLUGGED
        assert _fault(camera.check) is CameraFault.UNPLUGGED
    assert [frame.frame_number for frame in frames] == list(range(1, 11))
    assert [frame.missed for frame in frames] == [0] * 10
    assert all(abs(int(frame.image.mean()) - number * 20) < 4 for number, frame in enumerate(frames, start=1))
    assert frames[0].image.shape == (48, 64, 3)


def test_a_video_file_of_a_station_is_neither_stale_nor_reopened_before_its_end(video: Path) -> None:
    settings = OpenCvSettings(name="file", kind="opencv", device=str(video), reopen_first=0.01, reopen_longest=0.02)
    with camera_from_settings(settings) as camera:
        time.sleep(0.2)  # frames are read ahead
        assert [camera.grab(GENEROUS).frame_number for _ in range(10)] == list(range(1, 11))
        assert _fault(lambda: camera.grab(GENEROUS)) is CameraFault.UNPLUGGED
        assert camera.grab(GENEROUS).frame_number == 1  # it begins again


def test_colours_are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    writer.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))  # OpenCV writes BGR
    writer.release()
    with OpenCvCamera(str(path)) as camera:
        red, green, blue = camera.grab(GENEROUS).image.reshape(-1, 3).mean(0)
    assert red > 200
    assert max(green, blue) < 50


def test_what_is_not_there_is_unplugged(tmp_path: Path) -> None:
    for device in (str(tmp_path / "none.avi"), "/dev/video99", 99):
        assert _fault(OpenCvCamera(device).open) is CameraFault.UNPLUGGED


def test_properties_are_checked(video: Path) -> None:
    with pytest.raises(ConfigError, match="FRAME_WIDTH"):
        OpenCvCamera(str(video), {"FRAME_WITH": 1}).open()
    with pytest.raises(ConfigError, match="refuses"):
        OpenCvCamera(str(video), {"EXPOSURE": -3}).open()


def test_a_pipeline_in_a_build_without_gstreamer_says_what_to_do() -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(DependencyError, match="kind = 'gstreamer'"):
        OpenCvCamera("videotestsrc ! appsink").open()


def test_a_stream_that_says_nothing_ends_the_open_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x"
        began = time.monotonic()
        fault = _fault(OpenCvCamera(address, open_timeout=1.0).open)
        assert fault in (CameraFault.TIMEOUT, CameraFault.UNPLUGGED)
        assert time.monotonic() - began < GENEROUS


class _Blocking(ThreadedCamera[int]):
    """A driver whose third read never returns until it is let go."""

    def __init__(self) -> None:
        super().__init__("blocking", WaitingPolicy.WAIT, 1, fresh=False, skip_frames=0, open_timeout=GENEROUS)
        self.let_go = threading.Event()
        self.num_reads = 0
        self.disconnected = threading.Event()

    def _connect(self) -> int:
        return 1

    def _read(self, device: int) -> Pixels:
        self.num_reads += 1
        if self.num_reads == 3:
            self.let_go.wait(GENEROUS)
        return np.zeros((2, 2, 3), np.uint8)

    def _disconnect(self, device: int) -> None:
        self.disconnected.set()

    def _rgb(self, pixels: Pixels) -> Pixels:
        return pixels


def test_a_read_that_never_returns_is_a_timeout_and_does_not_hold_up_the_close() -> None:
    camera = _Blocking()
    camera.open()
    camera.grab(GENEROUS)
    camera.grab(GENEROUS)
    assert _fault(lambda: camera.grab(0.2)) is CameraFault.TIMEOUT
    camera.close()
    assert not camera.disconnected.is_set()  # the driver is in use: nobody else may let go of it
    camera.let_go.set()
    assert camera.disconnected.wait(GENEROUS)


@needs_gstreamer
def test_a_live_pipeline_gives_fresh_frames_and_counts_the_others() -> None:
    with GStreamerCamera(LIVE, 321, 240) as camera:  # rows of 963 bytes are padded to 964
        before = 0
        for _ in range(4):
            asked_ns = time.monotonic_ns()
            grabbed = camera.grab(GENEROUS)
            assert grabbed.captured_ns >= asked_ns
            assert grabbed.frame_number == before + grabbed.missed + 1
            before = grabbed.frame_number
            time.sleep(0.2)
        assert grabbed.missed >= 1
        assert camera.num_dropped == before - 4
    assert grabbed.image.shape == (240, 321, 3)


@needs_gstreamer
def test_the_pixels_are_those_of_the_pipeline() -> None:
    with GStreamerCamera("videotestsrc pattern=red num-buffers=3", 33, 16, WaitingPolicy.WAIT) as camera:
        images = [camera.grab(GENEROUS).image for _ in range(3)]
        assert _fault(lambda: camera.grab(GENEROUS)) is CameraFault.UNPLUGGED
    assert all((image == (255, 0, 0)).all() for image in images)


def _keep(camera: Camera, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GENEROUS
    while not until():
        assert time.monotonic() < deadline
        try:
            camera.grab(0.2)
        except CameraError:
            time.sleep(0.02)


@needs_gstreamer
def test_a_stopped_pipeline_is_a_timeout_a_killed_one_unplugged_and_it_comes_back() -> None:
    inner = GStreamerCamera(LIVE, 64, 48)
    with Reconnecting(inner, Backoff(0.05, 0.1)) as camera:
        camera.grab(GENEROUS)
        first = inner.pid
        assert first
        os.kill(first, signal.SIGSTOP)
        assert _fault(lambda: camera.grab(0.5)) is CameraFault.TIMEOUT
        os.kill(first, signal.SIGCONT)
        camera.grab(GENEROUS)
        os.kill(first, signal.SIGKILL)
        assert _fault(lambda: camera.grab(GENEROUS)) is CameraFault.UNPLUGGED
        assert camera.grab(GENEROUS).image.shape == (48, 64, 3)
        assert inner.pid != first
        second = inner.pid
        os.kill(inner.pid, signal.SIGSTOP)  # for good: two timeouts in a row open it again
        _keep(camera, lambda: camera.num_reconnects == 2 and inner.pid != second)
        camera.grab(GENEROUS)
        last = inner.pid
    assert last
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


@needs_gstreamer
@pytest.mark.parametrize("pipeline", ["nosuchelement", "v4l2src device=/dev/video99"])
def test_a_pipeline_that_cannot_run_says_why(pipeline: str) -> None:
    with pytest.raises(CameraError, match=r"nosuchelement|/dev/video99"):
        GStreamerCamera(pipeline, 64, 48).open()


@needs_gstreamer
@pytest.mark.parametrize("pipeline", ["'", "--help", " "])
def test_a_pipeline_that_is_none_is_refused(pipeline: str) -> None:
    with pytest.raises(ConfigError):
        GStreamerCamera(pipeline, 64, 48).open()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mpegts() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A live H.264 stream over TCP, made by GStreamer: its address and its process."""
    program = shutil.which("gst-launch-1.0")
    if not program:
        pytest.skip("gst-launch-1.0 is not installed")
    port = _free_port()
    line = f"{LIVE},width=64,height=48 ! jpegenc ! multipartmux ! tcpserversink host=127.0.0.1 port={port}"
    process = subprocess.Popen([program, "-q", *line.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"tcp://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


def test_a_network_stream_is_read_and_its_end_is_told(mpegts: tuple[str, subprocess.Popen[bytes]]) -> None:
    address, process = mpegts
    camera = Reconnecting(OpenCvCamera(address, open_timeout=5.0, read_timeout=2.0), Backoff(0.1, 0.2))
    with camera:
        deadline = time.monotonic() + GENEROUS
        while not camera.tend():  # the server may not listen yet
            assert time.monotonic() < deadline
            time.sleep(0.05)
        asked_ns = time.monotonic_ns()
        assert camera.grab(GENEROUS).captured_ns >= asked_ns
        process.send_signal(signal.SIGSTOP)
        assert _fault(lambda: camera.grab(0.5)) is CameraFault.TIMEOUT
        process.kill()
        assert _fault(lambda: camera.grab(GENEROUS)) is CameraFault.UNPLUGGED


RTSP = "rtspsrc location={address} latency=50 ! rtpjpegdepay ! jpegdec"


@needs_gstreamer
@needs_rtsp_server
@pytest.mark.parametrize("kind", ["opencv", "gstreamer"])
def test_an_rtsp_camera_gives_fresh_frames_and_its_loss_is_told(kind: str) -> None:
    with rtsp_server() as (address, process):
        camera: Camera
        if kind == "opencv":
            camera = OpenCvCamera(address, read_timeout=2.0)
        else:
            camera = GStreamerCamera(RTSP.format(address=address), 64, 48)
        with camera:
            before = 0
            for _ in range(3):
                asked_ns = time.monotonic_ns()
                grabbed = camera.grab(GENEROUS)
                assert grabbed.captured_ns >= asked_ns
                assert not before or grabbed.frame_number == before + grabbed.missed + 1
                before = grabbed.frame_number
            assert grabbed.image.shape == (48, 64, 3)
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(CameraError):  # after what the decoder still held
                [camera.grab(0.5) for _ in range(50)]
            process.kill()
            assert _fault(lambda: camera.grab(GENEROUS)) is CameraFault.UNPLUGGED


class _Backlog(_Blocking):
    """A driver that at times gives frames from a buffer: those take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.policy, self._fresh = WaitingPolicy.DROP_OLDEST, True
        self.backlog = threading.Semaphore(0)

    def _read(self, device: int) -> Pixels:
        self.num_reads += 1
        if not self.backlog.acquire(blocking=False):
            time.sleep(0.06)
        return np.full((2, 2, 3), self.num_reads % 256, np.uint8)


def test_a_frame_that_stood_in_a_buffer_does_not_count_as_fresh() -> None:
    camera = _Backlog()
    with camera:
        for _ in range(9):
            camera.grab(GENEROUS)  # its pace is known now
        reads = camera.num_reads
        camera.backlog.release(10)
        assert camera.grab(GENEROUS).frame_number > reads + 10
