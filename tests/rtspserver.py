"""A camera that speaks RTSP: GStreamer's own server in a process of its own, for tests of real streams."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_LIBRARY = "libgstrtspserver-1.0.so.0"
_LAUNCH = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={width},height={height},framerate=30/1 "
    "! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
)


def missing_rtsp_server() -> str:
    """Say what is missing for the server; empty when nothing is."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return f"{_LIBRARY} is not installed (apt install libgstrtspserver-1.0-0)"
    return ""


needs_rtsp_server = pytest.mark.skipif(bool(missing_rtsp_server()), reason=missing_rtsp_server() or "it is there")


@contextmanager
def rtsp_server(width: int = 64, height: int = 48) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the server; gives its address and its process, which is gone afterwards."""
    command = [sys.executable, "-m", "tests.rtspserver", str(width), str(height)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait(30)
        if process.stdout:
            process.stdout.close()


def _function(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


def _main(width: str, height: str) -> None:
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    gst, glib = ctypes.CDLL(_LIBRARY), ctypes.CDLL("libglib-2.0.so.0")
    ctypes.CDLL("libgstreamer-1.0.so.0").gst_init(None, None)
    server = _function(gst, "gst_rtsp_server_new", pointer)()
    _function(gst, "gst_rtsp_server_set_address", None, pointer, text)(server, b"127.0.0.1")
    _function(gst, "gst_rtsp_server_set_service", None, pointer, text)(server, b"0")
    factory = _function(gst, "gst_rtsp_media_factory_new", pointer)()
    launch = _LAUNCH.format(width=width, height=height).encode()
    _function(gst, "gst_rtsp_media_factory_set_launch", None, pointer, text)(factory, launch)
    mounts = _function(gst, "gst_rtsp_server_get_mount_points", pointer, pointer)(server)
    add = _function(gst, "gst_rtsp_mount_points_add_factory", None, pointer, text, pointer)
    add(mounts, b"/camera", factory)
    _function(gst, "gst_rtsp_server_attach", ctypes.c_uint, pointer, pointer)(server, None)
    port = _function(gst, "gst_rtsp_server_get_bound_port", ctypes.c_int, pointer)(server)
    print(f"rtsp://127.0.0.1:{port}/camera", flush=True)
    loop = _function(glib, "g_main_loop_new", pointer, pointer, ctypes.c_int)(None, 0)
    run = _function(glib, "g_main_loop_run", None, pointer)
    threading.Thread(target=run, args=(loop,), daemon=True).start()
    parent = os.getppid()
    while os.getppid() == parent:  # it does not outlive the test
        time.sleep(0.5)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
