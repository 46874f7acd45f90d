"""Labelled sets: `items.csv`, its masks, and the reference that belongs to each item.

Knows the file format and the rule of the reference; knows no model. Every complaint names the line.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from judo_edge.core import CellMask
from judo_edge.errors import ItemsError
from judo_edge.vision.geometry import cells_from_mask_image

COLUMNS = ("image", "label", "split", "group", "reference", "mask")
LABELS = ("good", "defect")
SPLITS = ("train", "accept")


@dataclass(frozen=True)
class Item:
    """One labelled photo; paths are absolute or relative to the working folder."""

    line: int
    """Line of the file, counted from one."""
    image: Path
    is_defect: bool
    split: str
    group: str
    """Empty for none."""
    reference: Path | None
    mask: Path | None

    def truth(self, rows: int, cols: int) -> CellMask | None:
        """Return the true cells (2 % rule): empty for a good part, None for a defect without a mask.

        Raises ItemsError when the mask cannot be read.
        """
        if not self.is_defect:
            return CellMask(rows, cols)
        if self.mask is None:
            return None
        try:
            with PillowImage.open(self.mask) as picture:
                return cells_from_mask_image(np.asarray(picture.convert("L")) > 0, rows, cols)
        except Exception as error:  # decoders raise many kinds
            raise ItemsError(f"line {self.line}: mask {self.mask}: {error}", "a readable picture") from error


def items_from_csv(path: Path) -> tuple[Item, ...]:
    """Read a labelled set; ItemsError names the line of the first fault."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, reader.fieldnames or ())
            items = tuple(_item(path, reader.line_num, row) for row in reader)
    except OSError as error:
        raise ItemsError(f"{path}: {error.strerror}", "a readable items.csv", "check the path") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ItemsError(f"{path}: {error}", "a comma-separated file in UTF-8", "correct the file") from error
    if not items:
        raise ItemsError(f"{path} holds no items", "one line per photo", "add items")
    _check_unique(path, items)
    return items


def chosen_items(items: Sequence[Item], split: str, limit: int | None = None) -> tuple[Item, ...]:
    """Return the items of a split (`all` for every one) in file order; `limit` keeps the first of both labels alike."""
    if split not in (*SPLITS, "all"):
        raise ItemsError(f"split {split!r}", f"one of {', '.join((*SPLITS, 'all'))}", "choose a split")
    inside = [item for item in items if split in ("all", item.split)]
    if not inside:
        raise ItemsError(f"no item in split {split!r}", "at least one", "choose another split")
    if limit is None or limit >= len(inside):
        return tuple(inside)
    ranks: dict[bool, int] = {False: 0, True: 0}
    order = []
    for item in inside:
        order.append((ranks[item.is_defect], item.is_defect, item.line))
        ranks[item.is_defect] += 1
    kept = {line for _, _, line in sorted(order)[:limit]}
    return tuple(item for item in inside if item.line in kept)


def reference_candidates(item: Item, items: Sequence[Item], count: int = 1) -> tuple[Path, ...]:
    """Return the photos that may serve as an item's reference, at most `count`, in file order.

    The item's own reference when the file names one; else good items of the train split, of the same group if there
    are any, never the item itself. ItemsError when there is none.
    """
    if item.reference is not None:
        return (item.reference,)
    good = [other for other in items if other.split == "train" and not other.is_defect and other.image != item.image]
    same = [other for other in good if item.group and other.group == item.group]
    found = tuple(other.image for other in (same or good)[:count])
    if not found:
        raise ItemsError(f"line {item.line}: no reference", "a reference column or a good train item", "add one")
    return found


def _check_header(path: Path, names: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    if missing or unknown or len(set(names)) != len(names):
        raise ItemsError(f"{path}: line 1: columns {', '.join(names)}", ", ".join(COLUMNS), "correct the header")


def _item(path: Path, line: int, row: dict[str, str]) -> Item:
    if None in row or None in row.values():
        raise ItemsError(f"{path}: line {line}: wrong number of fields", f"{len(COLUMNS)} fields", "correct the line")
    for name, choices in (("label", LABELS), ("split", SPLITS)):
        if row[name] not in choices:
            raise ItemsError(f"{path}: line {line}: {name} {row[name]!r}", f"one of {', '.join(choices)}", "correct it")
    if row["label"] == "good" and row["mask"]:
        raise ItemsError(f"{path}: line {line}: a good item with a mask", "masks on defects only", "correct the line")
    image = _file(path, line, "image", row["image"])
    if image is None:
        raise ItemsError(f"{path}: line {line}: image is empty", "a path", "correct the line")
    reference, mask = (_file(path, line, name, row[name]) for name in ("reference", "mask"))
    return Item(line, image, row["label"] == "defect", row["split"], row["group"], reference, mask)


def _file(path: Path, line: int, name: str, text: str) -> Path | None:
    if not text:
        return None
    file = path.parent / text
    if not file.is_file():
        raise ItemsError(f"{path}: line {line}: {name} {text!r} is not a file", "a path relative to it", "correct it")
    return file


def _check_unique(path: Path, items: Sequence[Item]) -> None:
    lines: dict[Path, int] = {}
    for item in items:
        first = lines.setdefault(item.image, item.line)
        if first != item.line:
            raise ItemsError(f"{path}: line {item.line}: the same image as line {first}", "each image once", "drop one")
