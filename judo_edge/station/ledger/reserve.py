"""Room held back on the disk: a file that is given up when the ledger cannot be written, and made again later.

Its bytes are random, so that a file system that compresses or leaves holes holds them back too.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_CHUNK = 1 << 20


class Reserve:
    """The file; no method raises OSError, because a full disk is when it is used."""

    def __init__(self, path: Path, num_bytes: int) -> None:
        """Name the file and its size in bytes; nothing is written before `make`."""
        self._path, self._size = path, num_bytes

    @property
    def is_held(self) -> bool:
        """Tell whether the room is held back."""
        try:
            return self._path.stat().st_size >= self._size
        except OSError:
            return False

    def make(self) -> bool:
        """Write the file unless it is there; False when the disk has not twice its room."""
        if self.is_held:
            return True
        try:
            if shutil.disk_usage(self._path.parent).free < 2 * self._size:
                return False
            self._write()
        except OSError:
            self.release()
        return self.is_held

    def release(self) -> None:
        """Give the room up."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return

    def _write(self) -> None:
        partial = self._path.with_name(self._path.name + ".partial")
        try:
            with partial.open("wb") as stream:
                for start in range(0, self._size, _CHUNK):
                    stream.write(os.urandom(min(_CHUNK, self._size - start)))
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)
