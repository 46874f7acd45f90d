"""A cache of drawn pairs on disk, so that training never waits for drawing.

Pairs are reproducible from the seed alone: shard i of a set is drawn from seed + i.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from judo_edge.adapt.drawing.pairs import DEFECTS, Pair, draw_pairs
from judo_edge.adapt.drawing.parts import SIZE
from judo_edge.vision.geometry import cells_from_mask_image

SHARD = 500
"""Pairs of one shard."""


@dataclass(frozen=True)
class DrawnSet:
    """Pairs as arrays: photos (N, 2, SIZE, SIZE, 3) uint8, cells (N, 16, 16) bool, defects (N,) int8, -1 if good."""

    photos: npt.NDArray[np.uint8]
    cells: npt.NDArray[np.bool_]
    defects: npt.NDArray[np.int8]

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.defects)

    def defect(self, index: int) -> str | None:
        """Name the defect of a pair, None for a good one."""
        code = int(self.defects[index])
        return DEFECTS[code] if code >= 0 else None


def cells_from_mask(mask: npt.NDArray[np.bool_], grid: int = 16) -> npt.NDArray[np.bool_]:
    """Rasterise a mask to (grid, grid) cells by the 2 % rule of JUDO's training targets."""
    return cells_from_mask_image(mask, grid, grid).to_array()


def set_from_pairs(pairs: list[Pair]) -> DrawnSet:
    """Stack pairs into arrays."""
    photos = np.stack([np.stack([pair.query, pair.reference]) for pair in pairs])
    defects = [DEFECTS.index(pair.defect) if pair.defect else -1 for pair in pairs]
    return DrawnSet(photos, np.stack([cells_from_mask(pair.mask) for pair in pairs]), np.asarray(defects, np.int8))


def _draw_shard(folder: str, seed: int, kinds: tuple[str, ...]) -> str:
    path = Path(folder) / f"{seed}.npz"
    if not path.exists():
        drawn = set_from_pairs(draw_pairs(seed, kinds, SHARD))
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, photos=drawn.photos, cells=drawn.cells, defects=drawn.defects)
        partial.rename(path)
    return str(path)


def drawn_set(folder: Path, seed: int, kinds: tuple[str, ...], shards: int, workers: int = 2) -> DrawnSet:
    """Draw (or reload) `shards` shards of 500 pairs; memory is 150 kB a photo, all of it is held."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(_draw_shard, str(folder), seed + i, kinds) for i in range(shards)]
        paths = [job.result() for job in jobs]
    total = shards * SHARD
    photos = np.empty((total, 2, SIZE, SIZE, 3), np.uint8)
    cells, defects = np.empty((total, 16, 16), np.bool_), np.empty(total, np.int8)
    for i, path in enumerate(paths):
        part = slice(i * SHARD, (i + 1) * SHARD)
        with np.load(path) as shard:
            photos[part], cells[part], defects[part] = shard["photos"], shard["cells"], shard["defects"]
    return DrawnSet(photos, cells, defects)
