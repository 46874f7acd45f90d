"""Unseen drawn pairs as a labelled set on disk, so that the drawn and the real are judged by one command."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

from judo_edge.adapt.drawing.pairs import Pair, draw_pair

HELDOUT_SEED = 77_000_000
"""Far from every training seed."""


def heldout_pairs(kinds: tuple[str, ...], count: int, seed: int = HELDOUT_SEED) -> list[Pair]:
    """Draw `count` pairs, kinds in turn, exactly every second one defective."""
    rng = np.random.default_rng(seed)
    return [draw_pair(rng, kinds[i // 2 % len(kinds)], bool(i % 2)) for i in range(count)]


def items_from_pairs(pairs: list[Pair], folder: Path, split: str = "accept") -> Path:
    """Write photos, masks and items.csv (all in one split) to a new folder and return the csv's path."""
    folder.mkdir(parents=True)
    rows = [_written(pair, index, folder, split) for index, pair in enumerate(pairs)]
    path = folder / "items.csv"
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "label", "split", "group", "reference", "mask"])
        table.writerows(rows)
    return path


def _written(pair: Pair, index: int, folder: Path, split: str) -> list[str]:
    query, reference, mask = f"{index:04d}.png", f"{index:04d}_normal.png", f"{index:04d}_mask.png"
    cv2.imwrite(str(folder / query), pair.query[:, :, ::-1])
    cv2.imwrite(str(folder / reference), pair.reference[:, :, ::-1])
    if pair.defect is None:
        return [query, "good", split, pair.kind, reference, ""]
    cv2.imwrite(str(folder / mask), pair.mask.astype(np.uint8) * 255)
    return [query, "defect", split, pair.kind, reference, mask]
