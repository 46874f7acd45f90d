"""Labelled sets of small drawn photos: noise, and a bright square where a part is defective."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from judo_edge.items import COLUMNS

SIDE = 64


def write_items(
    folder: Path, good: int, defects: int, accept: int = 2, seed: int = 0, without_mask: int = 0, tiny: int = 0
) -> Path:
    """Write photos, masks and items.csv; `accept` good photos are kept for acceptance."""
    generator = np.random.default_rng(seed)
    rows = [_row(folder, generator, f"good{i}", "good", "train") for i in range(good)]
    rows += [_row(folder, generator, f"defect{i}", "defect", "train", size=9 + 4 * i) for i in range(defects)]
    rows += [_row(folder, generator, f"bare{i}", "defect", "train") for i in range(without_mask)]
    rows += [_row(folder, generator, f"empty{i}", "defect", "train", size=0) for i in range(tiny)]
    rows += [_row(folder, generator, f"accept{i}", "good", "accept") for i in range(accept)]
    return write_csv(folder / "items.csv", rows)


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write an items file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read its rows."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _row(
    folder: Path, generator: np.random.Generator, name: str, label: str, split: str, size: int | None = None
) -> dict[str, str]:
    pixels = generator.integers(0, 200, (SIDE, SIDE, 3), dtype=np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if size:
        top, left = (int(generator.integers(0, SIDE - size)) for _ in range(2))
        pixels[top : top + size, left : left + size] = 255
        mask[top : top + size, left : left + size] = 255
    Image.fromarray(pixels).save(folder / f"{name}.png")
    if size is not None:
        Image.fromarray(mask).save(folder / f"{name}-mask.png")
    named = {"image": f"{name}.png", "label": label, "split": split, "group": "", "reference": "", "mask": ""}
    return named if size is None else {**named, "mask": f"{name}-mask.png"}
