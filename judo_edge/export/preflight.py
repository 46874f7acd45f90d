"""What an export will need, before it writes: disk by file, memory, time.

Disk is counted, not estimated: the layouts say where every byte goes. Memory is what this process has used so far
(libraries and tracing, measured) or, if that is more, what it holds now and the forms in work. Time is measured: a
short piece of every kind of form, of hashing and of writing, scaled to the whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from judo_edge.bundle import MANIFEST_NAME, FileEntry, Manifest
from judo_edge.errors import OutputError
from judo_edge.export.forms import QuantizedForm, StoredForm, base
from judo_edge.export.resume import work_folder
from judo_edge.export.stream import JOINED_BYTES, Layout, num_bytes_of, workers
from judo_edge.machine import available_memory, resident_memory

MARGIN_BYTES = 16 << 20
"""Disk allowed beyond the bundle: journal, folders, blocks that are not full."""

_CHUNKS = 12
"""Chunks of float32 that a form's thread holds at most: stored, merged, scaled and rounded rows and their copies. With
matrices of 7B 5 to 7 were measured; the rest is for what the allocator keeps of earlier ones."""
_MOST_FLOATS = 8
"""Bytes of float32 for a byte of the smallest form, int4."""
_GRAM_BYTES = 28
"""Bytes for each second moment of a layer's inputs: one float32 and three float64 matrices."""
_PROBE_SECONDS, _PROBE_BYTES = 0.3, 32 << 20


@dataclass(frozen=True)
class Preflight:
    """What an export needs, and what there is."""

    files: Mapping[str, int]
    """File of the bundle -> bytes."""
    written: int
    """Bytes that an unfinished export has on the disk already."""
    free_disk: int
    """Bytes free where the bundle goes."""
    memory: int
    """Greatest resident memory of the process, bytes."""
    held: int
    """Resident memory of the process now, bytes."""
    free_memory: int
    """Bytes that the process may still take: of the machine, or of its control group where that is less."""
    seconds: float = 0
    """Expected duration from here on; 0 when not measured."""

    @property
    def disk(self) -> int:
        """Return the bytes of the bundle."""
        return sum(self.files.values())

    @property
    def hashed(self) -> int:
        """Return the bytes of the files that the manifest lists."""
        return self.disk - self.files[MANIFEST_NAME]

    @property
    def has_disk(self) -> bool:
        """Tell whether the bundle fits on the disk."""
        return self.free_disk + self.written >= self.disk + MARGIN_BYTES

    @property
    def has_memory(self) -> bool:
        """Tell whether the process will get the memory it needs."""
        return self.free_memory + self.held >= self.memory


def preflight_of(
    out: Path, files: Mapping[str, int], manifest: Manifest, layouts: Sequence[Layout], source: int, with_time: bool
) -> Preflight:
    """Return what is needed to write `files` and `manifest`, reading `source` bytes of checkpoint."""
    entries = {name: FileEntry(sha256=manifest.source.digest, bytes=size) for name, size in files.items()}
    text = manifest.model_copy(update={"files": entries}).model_dump_json(indent=1)
    folder = next(path for path in (out.absolute(), *out.absolute().parents) if path.is_dir())
    held, peak = resident_memory()
    forms = [form for layout in layouts for form in layout.forms]
    return Preflight(
        files={**files, MANIFEST_NAME: len(text) + 1},
        written=sum(path.stat().st_blocks * 512 for path in work_folder(out).rglob("*") if path.is_file()),
        free_disk=shutil.disk_usage(folder).free,
        memory=max(peak, held + workers() * max(map(_working_bytes, forms))),
        held=held,
        free_memory=_free_memory(),
        seconds=_seconds(forms, source, sum(files.values()), folder) if with_time else 0,
    )


def check_room(needed: Preflight, out: Path, warn: Callable[[str], None]) -> None:
    """Raise OutputError when the disk has no room; `warn` when memory will be short."""
    if not needed.has_disk:
        missing = needed.disk + MARGIN_BYTES - needed.free_disk - needed.written
        found = f"{out.absolute().parent} has {needed.free_disk / 1e9:.2f} GB free"
        wanted = f"{(needed.free_disk + missing) / 1e9:.2f} GB for {out.name}"
        raise OutputError(found, wanted, "free space or choose another folder")
    if not needed.has_memory:
        free = (needed.free_memory + needed.held) / 1e9
        warn(
            f"the export takes up to {needed.memory / 1e9:.2f} GB of memory and may have {free:.2f} GB; close programs"
        )


def _working_bytes(form: StoredForm) -> int:
    """Return what one form holds at most while it is made."""
    largest = max(part.num_bytes for part in form.parts)
    joined = largest if largest <= JOINED_BYTES else 0
    moments = _GRAM_BYTES * form.linear.in_features**2 if isinstance(form, QuantizedForm) and form.gram else 0
    return _CHUNKS * min(base.CHUNK_BYTES, _MOST_FLOATS * num_bytes_of(form)) + joined + moments


def _free_memory() -> int:
    """Return what the machine, or the control group where that is less, has left, bytes (Linux)."""
    free = available_memory() or 0
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(statistics.get("file", 0)))  # pages of files can be given back
    except (OSError, ValueError):  # no group, or one without a limit
        return free


def _seconds(forms: Sequence[StoredForm], source: int, size: int, folder: Path) -> float:
    """Return how long reading, making, hashing and writing will take."""
    making = sum(total / _making_rate(form) for form, total in _by_kind(forms)) / workers()
    hashing = _hashing_rate()
    written = size / _writing_rate(folder)
    return max(making + source / hashing / workers(), written) + size / hashing


def _by_kind(forms: Sequence[StoredForm]) -> Iterator[tuple[StoredForm, int]]:
    """Yield the largest form of every kind, and the bytes of all of that kind."""
    kinds: dict[tuple[str, bool], list[StoredForm]] = {}
    for form in forms:
        kinds.setdefault((form.label, len(form.parts[0].shape) > 1), []).append(form)
    for same in kinds.values():
        yield max(same, key=num_bytes_of), sum(map(num_bytes_of, same))


def _making_rate(form: StoredForm) -> float:
    """Return bytes per second of one thread, from as many pieces as fit a moment."""
    start, count = time.monotonic(), 0
    for piece in form.pieces():
        count += piece.values.nbytes
        if time.monotonic() - start > _PROBE_SECONDS:
            break
    return count / max(time.monotonic() - start, 1e-9)


def _hashing_rate() -> float:
    content = bytes(_PROBE_BYTES)
    start = time.monotonic()
    hashlib.sha256(content).hexdigest()
    return len(content) / (time.monotonic() - start)


def _writing_rate(folder: Path) -> float:
    """Return bytes per second to the disk, by a file without a name; infinite where none can be made."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            start = time.monotonic()
            file.write(os.urandom(1 << 20) * (_PROBE_BYTES >> 20))
            os.fsync(file.fileno())
            return _PROBE_BYTES / (time.monotonic() - start)
    except OSError:
        return float("inf")
