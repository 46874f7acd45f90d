"""The data folder's disk: room, how long a durable write takes, and what kind of disk it is."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from judo_edge.files import output_errors
from judo_edge.station.doctor.findings import Finding, fail, ok, warn

WRITES = 20
SLOW_SECONDS, TOO_SLOW_SECONDS = 0.05, 0.5
"""Of the slowest of the durable writes: every verdict waits for one."""
_BLOCK = bytes(4096)


def disk(data: Path, keep_free: int) -> Iterator[Finding]:
    """Check the disk below a data folder, which need not exist yet; `keep_free` is in bytes."""
    folder = _existing(data)
    if not os.access(folder, os.W_OK):
        yield fail("data folder", f"{folder} cannot be written to", f"give it to this user: chown {os.getuid()}")
        return
    free = shutil.disk_usage(folder).free
    if free < keep_free:
        action = "free space, or lower retention.keep_free_megabytes"
        yield warn("disk space", f"{free >> 20} MB free, {keep_free >> 20} wanted: photos will go", action)
    else:
        yield ok("disk space", f"{free >> 20} MB free at {folder}")
    yield _latency(folder)
    yield _kind(folder)


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path


def _latency(folder: Path) -> Finding:
    """Time small writes with fsync, as the ledger makes one for each verdict."""
    path = folder / f".doctor-{os.getpid()}"
    seconds = []
    with output_errors(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for _ in range(WRITES):
            began = time.monotonic()
            os.write(handle, _BLOCK)
            os.fsync(handle)
            seconds.append(time.monotonic() - began)
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)
    middle, slowest = sorted(seconds)[WRITES // 2], max(seconds)
    found = f"a durable write takes {middle * 1000:.1f} ms, the slowest of {WRITES} {slowest * 1000:.1f} ms"
    action = "put the data folder on an SSD"
    if slowest > TOO_SLOW_SECONDS:
        return fail("disk latency", found, action)
    return warn("disk latency", found, action) if slowest > SLOW_SECONDS else ok("disk latency", found)


def _kind(folder: Path) -> Finding:
    device, kind = _mounted(folder)
    if kind in ("tmpfs", "ramfs", "overlay"):
        return warn(
            "disk kind", f"{kind}: verdicts do not outlive this machine or container", "mount a real disk there"
        )
    if kind in ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"):
        return fail("disk kind", f"{kind}: SQLite's log is not safe over a network", "use a local disk")
    if Path(device).name.startswith("mmcblk"):
        return warn("disk kind", f"{device} is an SD card or eMMC", "a ledger that syncs every verdict wears it out")
    return ok("disk kind", f"{kind} on {device}")


def _mounted(folder: Path) -> tuple[str, str]:
    """Return device and type of the file system below a folder, as /proc/mounts has it."""
    best, found = "", ("unknown", "unknown")
    with suppress(OSError):
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            device, point, kind, *_ = line.split(" ")
            point = point.replace("\\040", " ")
            if folder.resolve().is_relative_to(point) and len(point) >= len(best):
                best, found = point, (device, kind)
    return found
