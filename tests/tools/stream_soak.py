"""A GigE Vision stream over loopback for a long time: every frame accounted for, and does memory grow?

`python -m tests.tools.stream_soak --seconds 600`. The simulator of libaravis sends, the station's source receives every
frame in order. Now and then the receiver sleeps, so that frames are lost on purpose and must be counted. It holds when
each number between first and last was received or reported as missed, no number came twice, what the library says
that it completed and what failed is what was received and what was refused, and its count of packets without a
buffer explains the missing frames. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.errors import CameraError, CameraFault
from judo_edge.machine import resident_memory
from judo_edge.runtime.sources.aravis import AravisCamera, StreamCounts
from judo_edge.runtime.sources.health import Guarded
from judo_edge.runtime.sources.settings import AravisSettings, camera_from_settings
from tests.gvcamera import simulated_camera

SIDE = 256
PACKET = 1400
_OVERHEAD = 20 + 8 + 8  # IP, UDP and GVSP headers
PACKETS = -(-SIDE * SIDE // (PACKET - _OVERHEAD)) + 2  # and a leader and a trailer
STALL = 1.0
Report = dict[str, Any]


@dataclass
class Tally:
    """What the receiver saw."""

    received: int = 0
    incomplete: int = 0
    missed: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    first: int = 0
    last: int = 0
    stalls: int = 0
    out_of_order: int = 0
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since the beginning, resident bytes."""


def soak(seconds: float, rate: float, stall_every: int, capacity: int = 8) -> Report:
    """Stream for `seconds` at `rate` frames a second; sleep for a second after each `stall_every` frames (0: never)."""
    with simulated_camera("SOAK") as simulated:
        features = {"PixelFormat": "Mono8", "Width": SIDE, "Height": SIDE, "AcquisitionFrameRate": rate}
        settings = AravisSettings(
            name="soak",
            kind="aravis",
            device=simulated.device,
            trigger="free-run",
            waiting="wait",
            capacity=capacity,
            features={**features, "GevSCPSPacketSize": PACKET},
            packet_socket=False,
        )
        camera = camera_from_settings(settings)
        with camera:
            tally, began, dropped_before = Tally(), time.monotonic(), _kernel_drops()
            while (now := time.monotonic() - began) < seconds:
                _receive(camera, tally, now, stall_every)
            for _ in range(capacity + 2):  # what a last sleep lost shows in the numbers only after what waited
                _receive(camera, tally, seconds, 0)
            guarded = camera.camera
            assert isinstance(guarded, Guarded) and isinstance(guarded.camera, AravisCamera)
            counts, lossy = guarded.camera.counts(), guarded.camera.num_incomplete
            report = _report(tally, counts, time.monotonic() - began)
            # What waits still is complete or failed, and not received: at most all buffers.
            agree = 0 <= counts.completed - 1 - tally.received <= capacity and 0 <= counts.failed - lossy <= capacity
            report["kernel_drops"] = _kernel_drops() - dropped_before
            # A frame that found a buffer midway is torn; its packets before that are a part of a frame without one.
            known = report["dropped_on_the_way"] <= tally.incomplete + report["kernel_drops"]
            report["accounted"] = bool(report["accounted"] and agree and known)
            return {**report, "reconnects": camera.num_reconnects}


def _receive(camera: object, tally: Tally, now: float, stall_every: int) -> None:
    try:
        grabbed = camera.grab(2.0)  # type: ignore[attr-defined]
    except CameraError as error:
        tally.incomplete += error.fault is CameraFault.INCOMPLETE
        tally.faults[error.fault.value] = tally.faults.get(error.fault.value, 0) + 1
        return
    tally.out_of_order += tally.received > 0 and grabbed.frame_number <= tally.last
    tally.missed += grabbed.missed if tally.received else 0
    tally.first = tally.first if tally.received else grabbed.frame_number
    tally.received, tally.last = tally.received + 1, grabbed.frame_number
    if not tally.memory or now - tally.memory[-1][0] >= 1.0:
        tally.memory.append((now, resident_memory()[0]))
        if len(tally.memory) % 60 == 1:
            print(f"{now:6.0f} s  {tally.received} frames  {tally.memory[-1][1] / 1e6:.1f} MB", flush=True)
    if stall_every and tally.received % stall_every == 0:
        tally.stalls += 1
        time.sleep(STALL)


def _report(tally: Tally, counts: StreamCounts, seconds: float) -> Report:
    span, gaps = tally.last - tally.first + 1, tally.missed - tally.incomplete
    without_buffer = counts.no_buffer // PACKETS
    # A torn frame's packets may have come without a buffer too, so it may be in both counts.
    is_explained = gaps + tally.incomplete >= without_buffer
    return {
        "seconds": round(seconds, 1),
        "frames": span,
        "received": tally.received,
        "dropped": gaps,
        "dropped_without_buffer": without_buffer,
        "dropped_on_the_way": gaps - without_buffer,
        "incomplete": tally.incomplete,
        "completed_by_library": counts.completed,
        "failed_by_library": counts.failed,
        "stalls": tally.stalls,
        "out_of_order": tally.out_of_order,
        "faults": tally.faults,
        "accounted": span == tally.received + tally.missed and not tally.out_of_order and is_explained,
        "rss_first_mb": round(tally.memory[0][1] / 1e6, 2),
        "rss_last_mb": round(tally.memory[-1][1] / 1e6, 2),
        "rss_slope_mb_per_min": round(slope(tally.memory), 4),
    }


def _kernel_drops() -> int:
    """Return the packets that this machine's kernel has dropped: full sockets and full backlogs, of all programs."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line[:4] == "Udp:")
    sockets = int(values[names.index("RcvbufErrors")])
    return sockets + sum(int(line.split()[1], 16) for line in Path("/proc/net/softnet_stat").read_text().splitlines())


def slope(memory: list[tuple[float, int]]) -> float:
    """Return MB per minute by least squares over the last four fifths; 0 for fewer than three looks."""
    kept = np.array(memory[len(memory) // 5 :], dtype=np.float64)
    if len(kept) < 3:
        return 0.0
    return float(np.polyfit(kept[:, 0] / 60, kept[:, 1] / 1e6, 1)[0])


def main() -> int:
    """Run it from the command line; 1 when a frame is unaccounted for."""
    parser = argparse.ArgumentParser(description="stream from a simulated camera, account for every frame")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=25, help="frames a second")
    parser.add_argument("--stall-every", type=int, default=500, help="frames between two sleeps of a second; 0: none")
    arguments = parser.parse_args()
    report = soak(arguments.seconds, arguments.rate, arguments.stall_every)
    print(json.dumps(report))
    return 0 if report["accounted"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
