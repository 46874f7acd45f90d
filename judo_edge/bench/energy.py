"""Energy, where the device tells: NVML's counter of a GPU, or tegrastats' rails of a Jetson. Else None, never 0.

NVML (nvmlDeviceGetTotalEnergyConsumption, Volta and later) counts millijoules; its steps are tens of milliseconds wide,
so only sums over many frames mean something. tegrastats tells power, which is held constant until its next line.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

TEGRASTATS_MS = 100
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (\d+)mW/(\d+)mW")
_WHOLE = ("VDD_IN",)
"""Rails that feed the whole module, where a board names one."""


class EnergyMeter(Protocol):
    """Something that tells how much energy was used."""

    source: str
    """What is counted, for a reader."""

    def joules(self) -> float | None:
        """Return the joules used so far, from an arbitrary beginning; None when the device does not tell."""
        ...


class NoMeter:
    """No device tells."""

    source = "not measured"

    def joules(self) -> float | None:
        """Return None."""
        return None


class NvmlMeter:
    """The energy counter of the first NVIDIA GPU."""

    source = "NVML, the whole GPU"

    def __init__(self, library: ctypes.CDLL) -> None:
        """Open the first GPU; OSError when NVML does not work or the GPU has no counter."""
        self._library, self._device = library, ctypes.c_void_p()
        self._call("nvmlInit_v2")
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(0), ctypes.byref(self._device))
        self.joules()

    def joules(self) -> float | None:
        """Return the counter since the driver was loaded."""
        millijoules = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._device, ctypes.byref(millijoules))
        return millijoules.value * 1e-3

    def _call(self, name: str, *arguments: object) -> None:
        if code := getattr(self._library, name)(*arguments):
            raise OSError(code, f"{name} failed")


class TegrastatsMeter:
    """Power of a Jetson's rails, added up line by line."""

    source = "tegrastats, module input or the sum of its rails"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing before the first line."""
        self._clock, self._lock = clock, threading.Lock()
        self._joules, self._watts, self._since = 0.0, None, 0.0  # type: float, float | None, float

    def feed(self, lines: Iterable[str]) -> None:
        """Read lines as they come."""
        for line in lines:
            watts = watts_from_tegrastats(line)
            with self._lock:
                self._add_up()
                self._watts = watts

    def joules(self) -> float | None:
        """Return the energy since the first line; None before it, or when the last line told no power."""
        with self._lock:
            self._add_up()
            return None if self._watts is None else self._joules

    def _add_up(self) -> None:
        now = self._clock()
        self._joules += (self._watts or 0.0) * (now - self._since)
        self._since = now


def watts_from_tegrastats(line: str) -> float | None:
    """Return the power now in a line of tegrastats, watts: the module's input, or the sum of all rails it names.

    A rail is written `NAME now mW/average mW`. None when the line names no rail.
    """
    rails = {name: int(now) * 1e-3 for name, now, _ in _RAIL.findall(line)}
    whole = next((rails[name] for name in _WHOLE if name in rails), None)
    return whole if whole is not None or not rails else sum(rails.values())


@contextmanager
def energy_meter() -> Iterator[EnergyMeter]:
    """Yield the meter of this machine: tegrastats where it is installed, else NVML, else one that tells nothing."""
    if program := shutil.which("tegrastats"):
        with _tegrastats(program) as meter:
            yield meter
    else:
        yield _nvml_meter() or NoMeter()


def _nvml_meter() -> NvmlMeter | None:
    try:
        return NvmlMeter(ctypes.CDLL("libnvidia-ml.so.1"))
    except (OSError, AttributeError):  # no driver, no GPU, or a driver without the counter
        return None


@contextmanager
def _tegrastats(program: str) -> Iterator[TegrastatsMeter]:
    meter, command = TegrastatsMeter(), [program, "--interval", str(TEGRASTATS_MS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        reader = threading.Thread(target=meter.feed, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            yield meter
        finally:
            process.terminate()
            reader.join()
