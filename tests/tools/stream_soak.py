"""A GigE Vision stream over loopback for a long time: every frame accounted for, and does memory grow?

`python -m tests.tools.stream_soak --seconds 600`. The simulator of libaravis sends, the station's source receives
every frame in order. Now and then the receiver sleeps, so that frames are lost on purpose: they must be counted too.
Two countings must agree: the camera's frame numbers, and the library's count of packets that found no buffer. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field

import numpy as np

from judo_edge.errors import CameraError, CameraFault
from judo_edge.machine import resident_memory
from judo_edge.runtime.sources.aravis import AravisCamera
from judo_edge.runtime.sources.health import Guarded
from judo_edge.runtime.sources.settings import AravisSettings, camera_from_settings
from tests.gvcamera import simulated_camera

SIDE = 256
PACKET = 1400
_OVERHEAD = 20 + 8 + 8  # IP, UDP and GVSP headers
PACKETS = -(-SIDE * SIDE // (PACKET - _OVERHEAD)) + 2  # and a leader and a trailer
STALL = 1.0


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


def soak(
    seconds: float, rate: float, stall_every: int, capacity: int = 8
) -> dict[str, float | int | bool | dict[str, int]]:
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
            tally, began = Tally(), time.monotonic()
            while (now := time.monotonic() - began) < seconds:
                _receive(camera, tally, now, stall_every)
            for _ in range(capacity + 2):  # what a last sleep lost shows in the numbers only after what waited
                _receive(camera, tally, seconds, 0)
            guarded = camera.camera
            assert isinstance(guarded, Guarded) and isinstance(guarded.camera, AravisCamera)
            counts = guarded.camera.counts()
            report = _report(tally, counts.no_buffer, time.monotonic() - began)
            return {**report, "failed_by_library": counts.failed, "reconnects": camera.num_reconnects}


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


def _report(tally: Tally, no_buffer: int, seconds: float) -> dict[str, float | int | bool | dict[str, int]]:
    span, gaps = tally.last - tally.first + 1, tally.missed - tally.incomplete
    # A buffer that comes free in the middle of a frame makes it incomplete instead of lost.
    by_packets = no_buffer / PACKETS
    agree = by_packets - tally.incomplete - 1 < gaps <= by_packets
    return {
        "seconds": round(seconds, 1),
        "frames": span,
        "received": tally.received,
        "dropped": gaps,
        "incomplete": tally.incomplete,
        "packets_without_buffer": no_buffer,
        "packets_a_frame": PACKETS,
        "stalls": tally.stalls,
        "out_of_order": tally.out_of_order,
        "faults": tally.faults,
        "accounted": bool(span == tally.received + tally.missed and agree and not tally.out_of_order),
        "rss_first_mb": round(tally.memory[0][1] / 1e6, 2),
        "rss_last_mb": round(tally.memory[-1][1] / 1e6, 2),
        "rss_slope_mb_per_min": round(slope(tally.memory), 4),
    }


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
