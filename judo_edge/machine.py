"""What the machine says of its memory and processor, by Linux's /proc; elsewhere nothing, which is no error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_PROC = Path("/proc")


def available_memory() -> int | None:
    """Return the bytes that a new process can have without swapping; None where the system does not say."""
    return _kib_lines(_PROC / "meminfo").get("MemAvailable")


def resident_memory() -> tuple[int, int]:
    """Return resident bytes of this process now and at their greatest since its program started.

    From VmRSS and VmHWM: `getrusage` would count what the parent held when it made this process.
    """
    lines = _kib_lines(_PROC / "self" / "status")
    return lines.get("VmRSS", 0), lines.get("VmHWM", 0)


def cpu_flags() -> frozenset[str]:
    """Return the names of what an x86 processor can do, as the kernel lists them; none for any other."""
    path = _PROC / "cpuinfo"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = (line.partition(":")[2] for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").split())


def _kib_lines(path: Path) -> Mapping[str, int]:
    """Return the lines `name: number kB` of a file, in bytes; none where there is no such file."""
    if not path.is_file():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith(" kB"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}
