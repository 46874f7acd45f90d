"""Masks for people: the mask picture at the photo's size, its file, and the paths that draw cells over a photo.

Cells become pixels in `vision.geometry`; here they only become files and drawings.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote

from judo_edge.core import CellMask, Image
from judo_edge.files import write_atomic
from judo_edge.runtime.photos import png_from_image
from judo_edge.vision.geometry import mask_image_from_cells

_MAX_NAME = 120


def write_mask(folder: Path, frame_id: str, mask: CellMask, image: Image) -> str:
    """Write a mask as an 8-bit PNG (255 in defective cells) at the photo's size and return its file name."""
    name = f"{file_stem(frame_id)}.png"
    height, width = image.shape[:2]
    write_atomic(folder / name, png_from_image(mask_image_from_cells(mask, height, width)))
    return name


def file_stem(frame_id: str) -> str:
    """Return a file name for a frame: unsafe characters escaped, long names cut and told apart by a hash."""
    raw = frame_id.encode("utf-8", "surrogateescape")
    name = quote(raw, safe=" ()[]+,=@").lstrip(".") or "_"
    if name == frame_id and len(name) <= _MAX_NAME:
        return name
    return f"{name[:_MAX_NAME]}-{hashlib.sha256(raw).hexdigest()[:8]}"


def path_from_cells(mask: CellMask) -> str:
    """Return an SVG path of all cells, in units of one cell with the origin top left."""
    return "".join(f"M{col - 1} {row - 1}h1v1h-1z" for row, col in sorted(mask.cells))


def path_from_grid(rows: int, cols: int) -> str:
    """Return an SVG path of the inner lines of a grid, in units of one cell."""
    across = "".join(f"M0 {row}H{cols}" for row in range(1, rows))
    return across + "".join(f"M{col} 0V{rows}" for col in range(1, cols))
