"""What can go wrong, one function a fault: it harms the station, waits a while, and leaves it able to recover."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.control import write_control
from tests.chaos.link import Link
from tests.chaos.station import ChaosStation

Fault = Callable[[ChaosStation, random.Random], Awaitable[bool]]
"""Returns whether it could be done: a process that is away cannot be killed."""
_PATIENCE = 10.0
"""Seconds that a fault waits for its process to run."""


def killed(name: str) -> Fault:
    """Kill a process of the table."""

    async def fault(station: ChaosStation, rng: random.Random) -> bool:
        return await _signal(station, name, signal.SIGKILL) > 0

    return fault


def stopped(name: str, seconds: float) -> Fault:
    """Stop a process as a debugger would, and let it go on, unless it was killed for it meanwhile."""

    async def fault(station: ChaosStation, rng: random.Random) -> bool:
        pid = await _signal(station, name, signal.SIGSTOP)
        await asyncio.sleep(rng.uniform(0.5, 1.0) * seconds)
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGCONT)
        return pid > 0

    return fault


def controlled(seconds: float, **fault_of: object) -> Fault:
    """Have camera, engine or clock do something wrong for a while."""

    async def fault(station: ChaosStation, rng: random.Random) -> bool:
        write_control(station.run_folder, **fault_of)
        await asyncio.sleep(rng.uniform(0.5, 1.0) * seconds)
        write_control(station.run_folder, **dict.fromkeys(fault_of, ""))
        return True

    return fault


async def engine_stuck(station: ChaosStation, rng: random.Random) -> bool:
    """Have inspections never return, until the hub has given the inspector up."""
    before, end = station.pid_of("inspector"), time.monotonic() + 3 * _PATIENCE
    write_control(station.run_folder, engine="stuck")
    while station.pid_of("inspector") == before and time.monotonic() < end:
        await asyncio.sleep(0.1)
    write_control(station.run_folder, engine="")
    return before > 0


async def supervisor_killed(station: ChaosStation, rng: random.Random) -> bool:
    """Kill the supervisor, and start it again as systemd does."""
    await asyncio.to_thread(station.kill)
    await asyncio.sleep(rng.uniform(0.2, 1.0))
    station.start()
    return True


async def clock_jumps(station: ChaosStation, rng: random.Random) -> bool:
    """Put the clock on the wall of hub, cameras and inspector wrong, by up to a day either way, from now on."""
    write_control(station.run_folder, clock_seconds=rng.randint(-86_400, 86_400))
    return True


def link_dropped(link: Link) -> Fault:
    """Cut the OPC UA client off."""

    async def fault(station: ChaosStation, rng: random.Random) -> bool:
        return await _is_up(link) and link.drop() > 0

    return fault


def link_stalls(link: Link) -> Fault:
    """Let nothing through between OPC UA client and server for a while, then cut."""

    async def fault(station: ChaosStation, rng: random.Random) -> bool:
        return await _is_up(link) and await link.stall(rng.uniform(1.0, 4.0)) > 0

    return fault


async def _is_up(link: Link) -> bool:
    """Wait until someone is connected."""
    end = time.monotonic() + _PATIENCE
    while not link.is_used and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return link.is_used


async def disk_full(station: ChaosStation, rng: random.Random) -> bool:
    """Fill the data folder's disk, and make room again."""
    fill = station.folder / "data" / "fill"
    with contextlib.suppress(OSError), fill.open("wb") as stream:
        while True:
            stream.write(bytes(1 << 16))
            stream.flush()
    await asyncio.sleep(rng.uniform(1.0, 3.0))
    fill.unlink(missing_ok=True)
    return True


async def _signal(station: ChaosStation, name: str, number: signal.Signals) -> int:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(ProcessLookupError):
            if pid := station.pid_of(name):
                os.kill(pid, number)
                return pid
        await asyncio.sleep(0.1)
    return 0


@dataclass(frozen=True)
class Chosen:
    """The faults of a run, and what is left out and why."""

    faults: dict[str, Fault]
    left_out: dict[str, str]


def chosen_faults(has_small_disk: bool, link: Link) -> Chosen:
    """Return every fault that can be made here; `link` is the wire of the OPC UA client."""
    faults: dict[str, Fault] = {
        "hub killed": killed("hub"),
        "inspector killed": killed("inspector"),
        "camera killed": killed("camera.top"),
        "folder camera killed": killed("camera.in"),
        "OPC UA server killed": killed("opcua"),
        "web server killed": killed("web"),
        "supervisor killed": supervisor_killed,
        "camera stopped": stopped("camera.top", 6.0),
        "inspector stopped": stopped("inspector", 6.0),
        "hub stopped": stopped("hub", 4.0),
        "OPC UA server stopped": stopped("opcua", 4.0),
        "OPC UA link dropped": link_dropped(link),
        "OPC UA link stalls": link_stalls(link),
        "camera unplugged": controlled(3.0, camera="unplugged"),
        "camera frozen": controlled(3.0, camera="frozen"),
        "camera hangs": controlled(4.0, camera="hang"),
        "photo corrupt": controlled(2.0, camera="corrupt"),
        "engine raises": controlled(2.0, engine="raise"),
        "engine reports a fault": controlled(2.0, engine="report"),
        "engine hangs": controlled(3.0, engine="hang"),
        "engine hangs for good": engine_stuck,
        "clock jumps": clock_jumps,
    }
    left_out: dict[str, str] = {}
    if has_small_disk:
        faults["disk full"] = disk_full
    else:
        left_out["disk full"] = "mounting a small tmpfs needs root"
    return Chosen(faults, left_out)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 96):  # type: ignore[no-untyped-def]
    """Mount a small tmpfs at a folder; yields False where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    is_mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)
