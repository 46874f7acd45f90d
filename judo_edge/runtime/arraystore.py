"""Arrays on disk by the key of what they were computed from: embeddings of photos, keys and values of prompts.

Several processes may use one folder at once. A file is written beside, flushed and renamed, and never changed after
that; who has it mapped keeps it although another evicts it. Only the making of room is locked. Whatever goes wrong here
costs a computation and never a result: what cannot be read is computed again, what cannot be kept is used from memory.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from judo_edge.files import output_error_from_os, sync_to_disk
from judo_edge.runtime.arrayfile import Array, Arrays, DamagedError, arrays_from_map, write_arrays

_log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 4 << 30
_SUFFIX = ".arrays"
_LABEL = re.compile(r"[0-9A-Za-z_-]+")
_PATIENCE = 5.0
"""Seconds that the lock is waited for; a line must not stand still because another process does."""
_STALE = 3600.0
"""Seconds after which a file that was being written is taken for one left by a power cut."""


class ArrayKey(NamedTuple):
    """What names arrays."""

    label: str
    """Whose they are, such as the id of a reference (letters, digits, `_`, `-`): eviction spares what is pinned."""
    digest: str
    """SHA-256 hex of all that decides their content."""


def array_key(label: str, **parts: str | bytes) -> ArrayKey:
    """Return the key over named parts; which part a byte belongs to counts. ValueError for another kind of label."""
    if not _LABEL.fullmatch(label):
        raise ValueError(f"label {label!r} is not of letters and digits")
    digest = hashlib.sha256()
    for name, part in sorted(parts.items()):
        for raw in (name.encode(), part.encode() if isinstance(part, str) else part):
            digest.update(len(raw).to_bytes(8, "little") + raw)
    return ArrayKey(label, digest.hexdigest())


@dataclass
class StoreCounts:
    """What a store did since it was opened, in entries."""

    read: int = 0
    written: int = 0
    damaged: int = 0
    """Files that were there but could not be used."""
    evicted: int = 0
    unsaved: int = 0
    """Entries that had to be used from memory: no room, or the disk refused."""


class ArrayStore:
    """A folder of arrays, bounded in size; the least recently used entries that are not pinned make room."""

    def __init__(
        self, folder: Path, max_bytes: int = DEFAULT_MAX_BYTES, pinned: Callable[[], Collection[str]] = tuple
    ) -> None:
        """Name the folder, made at the first write; `pinned` is asked for the labels to spare when room is needed."""
        self.folder, self.max_bytes = folder, max_bytes
        self.counts = StoreCounts()
        self._pinned = pinned
        self._checked: dict[ArrayKey, tuple[int, ...]] = {}
        self._has_told = False

    def read(self, key: ArrayKey) -> Arrays | None:
        """Return the arrays of a key, memory-mapped and read-only; None when they are not there or not usable.

        The digest of a file's content is compared at its first opening, and again whenever the file is another.
        """
        path = self._path(key)
        try:
            arrays = self._opened(path, key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.counts.damaged += 1
            _log.warning("%s is not used: %s", path, error)
            return None
        self.counts.read += 1
        return arrays

    def write(self, key: ArrayKey, arrays: Arrays) -> Arrays:
        """Keep arrays under a key and return them, mapped where that was possible, else a copy in memory.

        ValueError for an array that does not hold plain numbers.
        """
        try:
            kept = self._put(key, arrays)
        except (OSError, DamagedError) as error:
            self._tell(error)
            return {name: _frozen_copy(array) for name, array in arrays.items()}
        self.counts.written += 1
        self._has_told = False
        return kept

    def num_bytes(self) -> int:
        """Return the size of all entries."""
        return sum(entry.size for entry in self._entries())

    def evict(self, max_bytes: int, even_pinned: bool = False) -> int:
        """Remove the least recently used entries until `max_bytes` are left, and return how many went.

        Pinned entries stay unless `even_pinned`. Raises OSError when the folder refuses.
        """
        with self._lock():
            return self._make_room(max_bytes, even_pinned)

    def _opened(self, path: Path, key: ArrayKey) -> Arrays:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if not status.st_size:
                raise DamagedError("empty")
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            arrays = arrays_from_map(mapped, key.digest, self._checked.get(key) == identity)
            self._checked[key] = identity
            with suppress(OSError):  # a read-only store has no order of use
                os.utime(stream.fileno(), ns=(time.time_ns(), status.st_mtime_ns))
        return arrays

    def _put(self, key: ArrayKey, arrays: Arrays) -> Arrays:
        """Write beside, open, make room, rename: once it has its name, another process may evict it."""
        path = self._path(key)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}-{threading.get_ident()}")
        try:
            with partial.open("wb") as stream:
                write_arrays(stream, key.digest, arrays)
                stream.flush()
                os.fsync(stream.fileno())
            kept = self._opened(partial, key)
            with self._lock():
                self._make_room(self.max_bytes - partial.stat().st_size, spared=path)
                partial.replace(path)
            sync_to_disk(self.folder)
            return kept
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, max_bytes: int, even_pinned: bool = False, spared: Path | None = None) -> int:
        """Evict down to `max_bytes`, `spared` not counted; OSError when what is pinned takes more than that."""
        entries = sorted(entry for entry in self._entries() if entry.path != spared)
        excess = sum(entry.size for entry in entries) - max_bytes
        if excess <= 0:
            return 0
        pinned = () if even_pinned else self._pinned()
        gone = 0
        for entry in (entry for entry in entries if entry.label not in pinned):
            if excess <= 0:
                break
            entry.path.unlink(missing_ok=True)
            excess, gone = excess - entry.size, gone + 1
        self.counts.evicted += gone
        if excess > 0 and spared is not None:
            raise OSError(f"{self.folder} may hold {self.max_bytes} bytes, which enrolled references take: allow more")
        return gone

    def _entries(self) -> Iterator[_Entry]:
        """Yield what is kept; what a power cut left half written is removed on the way."""
        for path in self.folder.glob(f"*{_SUFFIX}*"):
            with suppress(FileNotFoundError):  # another process may remove it meanwhile
                status = path.stat()
                if path.suffix == _SUFFIX:
                    yield _Entry(status.st_atime_ns, status.st_size, path)
                elif time.time() - status.st_mtime > _STALE:
                    path.unlink()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the folder's lock for as long as room is made; OSError when another process does not let go of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("wb") as handle:
            until = time.monotonic() + _PATIENCE
            while not _is_locked(handle):
                if time.monotonic() > until:
                    raise OSError(f"another process holds the lock of {self.folder}")
                time.sleep(0.01)
            yield

    def _tell(self, error: OSError | DamagedError) -> None:
        """Count an entry that is not kept; say why once, until one is kept again."""
        self.counts.unsaved += 1
        if not self._has_told:
            _log.warning("working from memory: %s", _reason(error, self.folder))
        self._has_told = True

    def _path(self, key: ArrayKey) -> Path:
        return self.folder / f"{key.label}.{key.digest}{_SUFFIX}"


class _Entry(NamedTuple):
    """A file of the store; entries sort by their last use."""

    used_ns: int
    size: int
    path: Path

    @property
    def label(self) -> str:
        return self.path.name.partition(".")[0]


def _reason(error: OSError | DamagedError, folder: Path) -> str:
    """Say why something cannot be kept; an error without a number is one of ours and says it already."""
    if isinstance(error, OSError) and error.errno:
        return str(output_error_from_os(error, folder))
    return str(error)


def _is_locked(handle: BinaryIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _frozen_copy(array: Array) -> Array:
    copied = np.array(array, copy=True)
    copied.flags.writeable = False
    return copied
