"""Photos on their way: from the spool folder into memory, checked before a byte of it is believed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from judo_edge.core import Image
from judo_edge.errors import ImageError, first_line
from judo_edge.station.workers import Spooled
from judo_edge.vision.photos import image_from_file

MAX_PIXELS = 1 << 28
"""Of one photo: more than any camera takes, and less than memory."""


def image_from_spooled(spool: Path, spooled: Spooled) -> Image:
    """Read a photo under way, (H, W, 3) uint8 RGB: from the spool folder, or from its own file where it names no other.

    ImageError says what is wrong with it.
    """
    if spooled.problem:
        raise ImageError(spooled.problem)
    if not spooled.file and spooled.path:
        return image_from_file(Path(spooled.path))
    return image_from_spool(spool, spooled.file)


def image_from_spool(spool: Path, name: str) -> Image:
    """Read a `.npy` file of the spool folder; ImageError says what is wrong with it."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise ImageError(f"spool file {name!r}", "a file name without a folder")
    try:
        with (spool / name).open("rb") as stream:
            return _image_from_npy(stream, name)
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or first_line(error)}", "a photo in the spool folder") from error
    except ValueError as error:
        raise ImageError(f"{name}: {first_line(error)}", "a .npy file of a photo") from error


def _image_from_npy(stream: BinaryIO, name: str) -> Image:
    """Read the header, compare it with the file's size, then read the pixels: nothing is unpickled."""
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not the first version of the .npy format")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or min(shape) < 1 or is_fortran:
        raise ValueError(f"shape {shape} of {dtype}, wanted (H, W, 3) of uint8")
    count = shape[0] * shape[1] * shape[2]
    left = os.fstat(stream.fileno()).st_size - stream.tell()
    if left != count or count > 3 * MAX_PIXELS:
        raise ValueError(f"{left} bytes of pixels for shape {shape}")
    pixels: Image = np.frombuffer(stream.read(count), dtype=np.uint8).reshape(shape)
    return pixels
