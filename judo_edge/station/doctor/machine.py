"""The machine: Python, packages, GPU, JetPack, memory, clocks, limits, and what systemd watches."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from judo_edge import __version__
from judo_edge.machine import available_memory
from judo_edge.plans.environment import current_platform
from judo_edge.plans.gpu import gpu_of_driver
from judo_edge.station.doctor.findings import Finding, fail, ok, warn

JETPACKS = {"35": "5", "36": "6", "38": "7", "39": "7"}
"""First number of JetPack by that of the L4T release."""
_LEAST_MEMORY = 1 << 30
_LEAST_FILES = 1024
_CLOCK_LOOK, _CLOCK_DRIFT = 0.5, 0.05
"""Seconds that two clocks are compared for, and may then differ by."""
_NTP = ("timedatectl", "show", "--property=NTPSynchronized", "--value")


def python() -> Iterator[Finding]:
    """Say which Python and judo-edge run."""
    yield ok("python", f"{platform.python_version()} at {sys.executable}, judo-edge {__version__}")


def packages(names: tuple[tuple[str, str], ...]) -> Iterator[Finding]:
    """Look for packages, each given with the extra that brings it."""
    for name, extra in names:
        yield _package(name, f"judo-edge[{extra}]" if extra else "judo-edge")


def _package(name: str, brings: str) -> Finding:
    try:
        return ok(f"package {name}", version(name))
    except PackageNotFoundError:
        return fail(f"package {name}", "not installed", f"pip install '{brings}'")


def gpu(engine: str) -> Iterator[Finding]:
    """Say which GPU, driver and JetPack there are; an engine that needs one fails without it."""
    found = gpu_of_driver()
    where = current_platform()
    if where.startswith("jetson-"):
        release = where.removeprefix("jetson-")
        yield ok("jetpack", f"{JETPACKS.get(release.split('.')[0], 'unknown')} (L4T {release})")
    if found is not None:
        yield ok("gpu", f"compute capability {found.compute_capability}, driver CUDA {found.driver}, {where}")
    elif engine == "onnxruntime":
        yield ok("gpu", f"none, engine {engine} needs none; {os.cpu_count()} cores, {where}")
    else:
        yield fail("gpu", "no NVIDIA driver with a GPU", f"install the driver; engine {engine} needs it")


def memory() -> Iterator[Finding]:
    """Say how much memory is left."""
    free = available_memory()
    if free is None:
        yield warn("memory", "the system does not say", "look at it by hand")
    elif free < _LEAST_MEMORY:
        yield warn("memory", f"{free >> 20} MB available", "end other programs, or take a smaller bundle")
    else:
        yield ok("memory", f"{free >> 20} MB available")


def clocks() -> Iterator[Finding]:
    """Compare the clock on the wall with the monotonic one, and ask whether it is kept by NTP."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(_CLOCK_LOOK)
    drift = (time.time() - wall) - (time.monotonic() - steady)
    if abs(drift) > _CLOCK_DRIFT:
        action = "let NTP slew the clock rather than step it; verdicts keep their order all the same"
        yield warn("clock", f"the clock on the wall moved by {drift:+.3f} s against the monotonic one", action)
    else:
        yield ok("clock", f"wall and monotonic clock agree within {abs(drift) * 1000:.1f} ms")
    yield _ntp()


def _ntp() -> Finding:
    if shutil.which(_NTP[0]) is None:
        return warn("ntp", "no timedatectl here to ask", "see that something keeps the time")
    try:
        said = subprocess.run(_NTP, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    if said == "yes":
        return ok("ntp", "synchronised")
    return warn("ntp", f"not synchronised ({said or 'no answer'})", "timedatectl set-ntp true, or name a time server")


def limits() -> Iterator[Finding]:
    """Look at limits of files, inotify and core dumps."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _LEAST_FILES:
        yield warn("open files", f"at most {soft}", f"LimitNOFILE={_LEAST_FILES} or more in the unit")
    else:
        yield ok("open files", f"at most {soft}")
    path = Path("/proc/sys/fs/inotify/max_user_watches")
    if path.is_file():
        watches = int(path.read_text())
        yield ok("inotify", f"at most {watches} watches; folders are polled, so none are needed")


def watchdog() -> Iterator[Finding]:
    """Say whether systemd runs this machine, and whether its own watchdog is fed."""
    if not Path("/run/systemd/system").is_dir():
        yield warn("systemd", "does not run this machine", "have something start judo-edge run again when it ends")
        return
    device = Path("/dev/watchdog0")
    said = subprocess.run(
        ("systemctl", "show", "--property=RuntimeWatchdogUSec", "--value"), capture_output=True, text=True, timeout=10
    ).stdout.strip()
    if device.exists() and said in ("", "0", "infinity"):
        yield warn("watchdog", f"{device} is not used", "RuntimeWatchdogSec=30 in /etc/systemd/system.conf")
    else:
        yield ok("systemd", f"runs this machine; hardware watchdog {said or 'none'}")
