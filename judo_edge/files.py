"""Files on disk: hashing, writing beside and renaming, and turning system errors into ours.

Knows nothing of bundles, models or profiles. Every output of judo-edge goes through `write_atomic` or a folder that is
renamed when complete, so that a reader never sees half a file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from judo_edge.errors import OutputError

_CHUNK = 1 << 20

_REASONS = {
    errno.ENOSPC: ("the disk is full", "free space or choose another folder, then run it again"),
    errno.EDQUOT: ("the disk quota is used up", "free space or choose another folder, then run it again"),
    errno.EFBIG: ("the file would exceed the allowed size", "raise the file size limit or choose another folder"),
    errno.EACCES: ("permission denied", "choose a folder that you may write to"),
    errno.EPERM: ("permission denied", "choose a folder that you may write to"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.ENOENT: ("a parent folder does not exist", "create the parent folder first"),
}


def sha256_of_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path, report: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file as 64 hex digits, reading 1 MiB at a time; `report` is told the bytes of each."""
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while size := stream.readinto(buffer):
            digest.update(view[:size])
            if report:
                report(size)
    return digest.hexdigest()


def output_error_from_os(error: OSError, path: Path) -> OutputError:
    """Say in one line why `path` could not be written and what to do."""
    default = (error.strerror or str(error), "check the output folder")
    reason, action = _REASONS.get(error.errno or 0, default)
    return OutputError(f"cannot write {path}: {reason}", action=action)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Raise OutputError instead of OSError inside the block; `path` is what was being written."""
    try:
        yield
    except OSError as error:
        raise output_error_from_os(error, path) from error


def write_atomic(path: Path, data: bytes, force: bool = False, *, is_private: bool = False) -> None:
    """Write `data` beside `path` and rename it; only this user may read a private file.

    Raises OutputError when `path` exists and `force` is not given, or when it cannot be written; what was there stays.
    """
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", action="pass --force to replace it, or choose another name")
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with output_errors(path):
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if is_private else 0o666)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Flush a file or folder, so that a power cut cannot undo or halve what was written or renamed there."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_folder(out: Path, force: bool, marker: str, kind: str) -> None:
    """Raise OutputError unless `out` may be written: absent, or with `force` an empty folder or one of its kind.

    A folder that holds the file `marker` is of that kind; `kind` names it, such as "a bundle".
    """
    if not (out.exists() or out.is_symlink()):
        return
    if not force:
        raise OutputError(f"{out} exists already", action="pass --force to replace it, or choose another folder")
    if out.is_symlink() or not out.is_dir():
        raise OutputError(f"{out} is not a folder", action="choose another folder")
    if any(out.iterdir()) and not (out / marker).is_file():
        raise OutputError(f"{out} is not {kind}, so --force does not replace it", action="choose another folder")


def put_in_place(folder: Path, out: Path) -> None:
    """Rename a finished folder to `out`; an earlier one is removed only after that. Raises OSError."""
    earlier = out.with_name(f"{out.name}.earlier-{os.getpid()}")
    replaced = out.exists()
    if replaced:
        out.rename(earlier)
    try:
        folder.rename(out)
    except BaseException:
        if replaced:
            earlier.rename(out)
        raise
    sync_to_disk(out.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def cache_folder() -> Path:
    """Return judo-edge's folder in the user's cache (XDG_CACHE_HOME)."""
    return _user_folder("XDG_CACHE_HOME", ".cache")


def config_folder() -> Path:
    """Return judo-edge's folder in the user's configuration (XDG_CONFIG_HOME)."""
    return _user_folder("XDG_CONFIG_HOME", ".config")


def _user_folder(variable: str, usual: str) -> Path:
    base = os.environ.get(variable, "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / usual) / "judo-edge"
