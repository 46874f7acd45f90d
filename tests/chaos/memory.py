"""Memory of a station's processes over a run: resident pages by process and life, and how they grow."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from pathlib import Path

import numpy as np

WARM_UP = 30.0
"""Seconds of a life that are not counted for growth: imports, first use, caches."""
_PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20


class Memory:
    """Resident MiB of processes, sampled."""

    def __init__(self) -> None:
        """Begin with no samples."""
        self._samples: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))

    def look(self, name: str, pid: int, now: float) -> None:
        """Take one sample, unless the process has gone; another pid is another life."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
            if resident > 0:
                self._samples[name][pid].append((now, resident))

    def rows(self) -> list[dict[str, object]]:
        """Return by process: lives, largest MiB, longest life in seconds, MiB per hour over lives, None if unknown."""
        return [_row(name, list(lives.values())) for name, lives in sorted(self._samples.items())]


def _row(name: str, lives: list[list[tuple[float, float]]]) -> dict[str, object]:
    spans = [life[-1][0] - life[0][0] for life in lives]
    slope = slope_of(lives)
    return {
        "process": name,
        "lives": len(lives),
        "longest_seconds": round(max(spans)),
        "max_mib": round(max(value for life in lives for _, value in life), 1),
        "mib_per_hour": None if slope is None else round(slope * 3600, 1),
    }


def slope_of(lives: list[list[tuple[float, float]]]) -> float | None:
    """Return one slope for all lives, each with a level of its own (least squares within lives), MiB per second."""
    tops, bottoms = 0.0, 0.0
    for life in lives:
        late = np.array([one for one in life if one[0] - life[0][0] >= WARM_UP]).reshape(-1, 2)
        if len(late) > 2:
            moved = late - late.mean(0)
            tops, bottoms = tops + float(moved[:, 0] @ moved[:, 1]), bottoms + float(moved[:, 0] @ moved[:, 0])
    return tops / bottoms if bottoms else None
