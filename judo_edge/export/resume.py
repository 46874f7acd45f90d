"""The work folder of an export, `<out>.partial`: a lock, a journal, and the bundle as far as it is written.

An interrupted export leaves it behind; the next export of the same inputs goes on after the last complete tensor. That
needs no option: the journal names every input, so going on gives the bytes that starting again would give. Knows no
tensors.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from judo_edge.errors import OutputError
from judo_edge.export.journal import Journal, parsed_journal
from judo_edge.files import output_error_from_os, output_errors

if TYPE_CHECKING:
    from typing_extensions import Self

SYNC_BYTES = 256 << 20
"""Bytes between two lines of the journal: what a power cut or a kill can cost."""

_JOURNAL, _LOCK, _BUNDLE = "journal.jsonl", "lock", "bundle"
_DISCARD = "pass --restart to discard it, or choose another folder"


def work_folder(out: Path) -> Path:
    """Return where an export to `out` works."""
    return out.with_name(f"{out.name}.partial")


def read_journal(folder: Path) -> Journal | None:
    """Return the journal of a work folder, None when nothing was begun; a line cut off by a kill ends it."""
    return parsed_journal(folder / _JOURNAL)[0]


def check_work(out: Path, inputs: Mapping[str, str], restart: bool) -> None:
    """Raise OutputError when the work folder of `out` is in use, is no work folder, or is of other inputs.

    `inputs` may be some of those that `WorkFolder` gets: a wrong one is found before the graphs are traced.
    """
    folder = work_folder(out)
    if not folder.exists():
        return
    if not (folder / _LOCK).is_file():
        raise OutputError(f"{folder} is not the work folder of an export", action="move it away")
    with output_errors(out):
        os.close(_locked(folder))
    journal = read_journal(folder)
    if journal and not restart:
        _check_inputs(folder, journal, inputs)


def remaining_note(out: Path) -> str:
    """Say how to go on with an unfinished export of `out`; empty when there is none."""
    journal = read_journal(work_folder(out))
    if journal is None or not journal.written:
        return ""
    done, total = journal.done / 1e9, journal.total / 1e9
    return f"the same command goes on from {done:.2f} of {total:.2f} GB in {work_folder(out)}; --restart discards them"


class WorkFolder:
    """Context manager that holds the work folder of `out`, locked, with its journal.

    Left by an interruption or an OSError it keeps the folder for the next export, if anything in it is of use; left by
    another error it removes it. An OSError becomes an OutputError that says so.
    """

    def __init__(self, out: Path, inputs: Mapping[str, str], created: str, total: int, restart: bool = False) -> None:
        """Remember the inputs; nothing is created before the block is entered."""
        self.out, self.folder, self._restart = out, work_folder(out), restart
        self.journal = Journal(dict(inputs), created, total)
        self._pending: tuple[str, int] | None = None
        self._unsynced = 0
        self._done = 0
        self._access = threading.Lock()

    @property
    def bundle(self) -> Path:
        """Return the folder that becomes the bundle."""
        return self.folder / _BUNDLE

    def __enter__(self) -> Self:
        """Create or take over the folder (OutputError when it is in use or of other inputs)."""
        check_work(self.out, self.journal.inputs, self._restart)
        with output_errors(self.out):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.folder)
        try:
            with output_errors(self.out):
                self._open_journal()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        self._done = self.journal.done
        return self

    def _open_journal(self) -> None:
        earlier, size = parsed_journal(self.folder / _JOURNAL)
        if earlier and not self._restart and earlier.inputs == self.journal.inputs:
            self.journal = earlier
            os.truncate(self.folder / _JOURNAL, size)
            self.bundle.mkdir(exist_ok=True)
        else:
            self._begin()

    def forms_of(self, file: str) -> int:
        """Return how many forms of a file are complete."""
        return self.journal.written.get(file, 0)

    def completed(self, file: str) -> Callable[[int, int], None]:
        """Return what is told that the first forms of a file are written, and the bytes of the last of them."""

        def complete(forms: int, num_bytes: int) -> None:
            if self._pending and self._pending[0] != file:
                self.sync()
            self._pending = (file, forms)
            self._unsynced += num_bytes
            self._done += num_bytes
            if self._unsynced >= SYNC_BYTES:
                self.sync()

        return complete

    def sync(self) -> None:
        """Flush what is complete to the disk, then write it down; raises OSError."""
        if self._pending is None:
            return
        file, forms = self._pending
        handle = os.open(self.bundle / file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        self._append({"file": file, "forms": forms, "done": self._done})
        self._pending, self._unsynced = None, 0

    def note_hash(self, source: str, sha256: str) -> None:
        """Keep the hash of a source file, so that it is not read again; may be called from another thread."""
        self._append({"source": source, "sha256": sha256})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep or remove the folder, and let others have it; tell with an OSError what was kept."""
        try:
            if error is not None and _is_interruption(error):
                self._keep()
            else:
                shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            os.close(self._lock)
        if isinstance(error, OSError):
            error = output_error_from_os(error, self.out)
        if isinstance(error, OutputError) and (note := remaining_note(self.out)):
            raise OutputError(error.found, error.wanted, f"{error.action}; {note}") from error

    def _begin(self) -> None:
        shutil.rmtree(self.bundle, ignore_errors=True)
        self.bundle.mkdir()
        first = {"inputs": self.journal.inputs, "created": self.journal.created, "total": self.journal.total}
        (self.folder / _JOURNAL).unlink(missing_ok=True)
        self._append(first)

    def _append(self, line: dict[str, Any]) -> None:
        raw = json.dumps(line).encode() + b"\n"
        with self._access, (self.folder / _JOURNAL).open("ab", buffering=0) as file:
            end = file.tell()
            try:
                while raw:
                    raw = raw[file.write(raw) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # half a line would hide those after it
                raise
            if "inputs" not in line:
                self.journal.add(line)

    def _keep(self) -> None:
        """Write down what is complete; a folder without anything complete is of no use."""
        with suppress(OSError):  # a full disk: the journal's last line counts
            self.sync()
        if not self.journal.written:
            shutil.rmtree(self.folder, ignore_errors=True)


def _is_interruption(error: BaseException) -> bool:
    """Tell what may go away by itself, from an error of the inputs or of the program that would come again."""
    passing = (OSError, MemoryError, OutputError)
    return not isinstance(error, Exception) or isinstance(error, passing) or isinstance(error.__cause__, passing)


def _locked(folder: Path) -> int:
    """Return a handle that holds the lock of a folder; the system releases it when the process ends, however."""
    path = folder / _LOCK
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not path.exists() or os.fstat(handle).st_ino != path.stat().st_ino:
            raise BlockingIOError  # its owner finished and removed it in between
    except BlockingIOError as error:
        os.close(handle)
        raise OutputError(f"another export writes {folder}", action="wait for it, or choose another folder") from error
    return handle


def _check_inputs(folder: Path, journal: Journal, inputs: Mapping[str, str]) -> None:
    differing = [name for name in inputs if journal.inputs.get(name) != inputs[name]]
    if differing:
        found = f"{folder} holds an unfinished export with other {', '.join(differing)}"
        raise OutputError(found, "the same inputs to go on", _DISCARD)
