"""Hidden states on disk: records of different lengths and one width, read and written one at a time.

Plain reads and writes, not a mapping: pages of a mapped file would count as memory of the process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from judo_edge.core import Floats
from judo_edge.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self


class Scratch:
    """A file of records (length, width) float32."""

    def __init__(self, path: Path, lengths: Sequence[int], width: int) -> None:
        """Lay the records out one after the other; the file is opened by `with`."""
        self.path, self.width = path, width
        self.lengths = tuple(int(length) for length in lengths)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)]) * width * 4
        self._handle = -1

    def __enter__(self) -> Self:
        """Open the file, making it when it does not exist."""
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        os.close(self._handle)
        self._handle = -1

    @property
    def num_bytes(self) -> int:
        """Return the size of the complete file."""
        return int(self._starts[-1])

    def read(self, index: int) -> Floats:
        """Read a record; InputError when the file was cut off."""
        values = np.empty((self.lengths[index], self.width), np.float32)
        view, place = values.reshape(-1).view(np.uint8).data, int(self._starts[index])
        while view:
            count = os.preadv(self._handle, [view], place)
            if not count:
                raise InputError(f"{self.path} ends early", "the working folder of this run", "start without it")
            view, place = view[count:], place + count
        return values

    def write(self, index: int, values: Floats) -> None:
        """Write a record of its own shape; raises OSError when the disk refuses."""
        if values.shape != (self.lengths[index], self.width):
            raise ValueError(f"record {index} of shape {values.shape}, wanted {(self.lengths[index], self.width)}")
        view = np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint8).data
        place = int(self._starts[index])
        while view:
            count = os.pwrite(self._handle, view, place)
            view, place = view[count:], place + count
