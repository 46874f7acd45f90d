"""What the cameras see: drawn parts, or photos that an engine has judged before without any fault."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

GOOD, BAD = 200, 40
"""Brightness of the two kinds of drawn part."""
BAD_SHARE = 0.3
FOLDER = "parts"
"""Beside the station's file: `good-*.npy` and `bad-*.npy`, named after the verdict that is right."""


class Parts:
    """Parts of a line, one after another; the same photo never comes twice in a row."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Look into the station's folder; without photos there parts are drawn."""
        self._rng = random.Random(seed)
        self._files = {kind: sorted((folder / FOLDER).glob(f"{kind}-*.npy")) for kind in ("good", "bad")}
        self._last: Path | None = None

    def next(self) -> tuple[str, np.ndarray]:
        """Return good or bad, and the photo, (H, W, 3) uint8."""
        kind = "bad" if self._rng.random() < BAD_SHARE else "good"
        if not self._files["good"]:
            return kind, photo(kind == "bad", self._rng.getrandbits(32))
        files = [one for one in self._files[kind] if one != self._last]
        self._last = self._rng.choice(files)
        return kind, np.load(self._last, allow_pickle=False)


def photo(is_bad: bool, seed: int) -> np.ndarray:
    """Draw a part, (64, 64, 3) uint8, with a sensor's noise."""
    noise = np.random.default_rng(seed).integers(-20, 21, (64, 64, 3))
    return (noise + (BAD if is_bad else GOOD)).astype(np.uint8)
