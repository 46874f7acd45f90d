"""Writing a bundle: everything goes into a folder beside the target, which is renamed when it is complete.

Whatever fails, the partial folder is removed, unless another owns it, and an earlier output stays as it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from judo_edge.bundle.manifest import MANIFEST_NAME, FileEntry, Manifest
from judo_edge.files import (
    check_folder,
    output_error_from_os,
    output_errors,
    put_in_place,
    sha256_of_file,
    sync_to_disk,
)

if TYPE_CHECKING:
    from typing_extensions import Self

HashReport = Callable[[int], None]
"""Is told the bytes hashed since the last call."""


def check_output(out: Path, force: bool) -> None:
    """Raise OutputError unless `out` may be written: absent, or with `force` a bundle or an empty folder."""
    check_folder(out, force, MANIFEST_NAME, "a bundle")


class BundleWriter:
    """Context manager that yields a partial folder; `commit` turns it into the bundle.

    Leaving the block without `commit`, or by any exception, removes the partial folder. An OSError inside the block
    becomes an OutputError.
    """

    def __init__(
        self, out: Path, force: bool = False, folder: Path | None = None, report: HashReport | None = None
    ) -> None:
        """Remember the target; nothing is created before the block is entered.

        `folder` is a partial folder beside `out` that exists and that its owner removes; `report` is told of hashing.
        """
        self.out, self._force, self._is_kept = out, force, folder is not None
        self.folder = folder or out.with_name(f"{out.name}.partial-{os.getpid()}")
        self._report = report or (lambda _: None)

    def __enter__(self) -> Self:
        """Create the partial folder (OutputError when `out` may not be written)."""
        check_output(self.out, self._force)
        if not self._is_kept:
            with output_errors(self.out):
                self.out.parent.mkdir(parents=True, exist_ok=True)
                self.folder.mkdir()
        return self

    def path(self, name: str) -> Path:
        """Return where to write the file `name`."""
        return self.folder / name

    def commit(self, manifest: Manifest) -> Path:
        """Hash every file, write the manifest with them, and rename the folder to its final name."""
        full = manifest.model_copy(update={"files": self._entries()})
        if unlisted := full.unlisted():
            raise ValueError(f"the manifest uses files that were not written: {', '.join(unlisted)}")
        text = full.model_dump_json(indent=1) + "\n"
        (self.folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
        for path in self.folder.rglob("*"):
            sync_to_disk(path)
        self._swap()
        return self.out

    def _entries(self) -> dict[str, FileEntry]:
        entries = {}
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            if path != self.folder / MANIFEST_NAME:  # one that a killed process left
                sha256 = sha256_of_file(path, self._report)
                entries[path.relative_to(self.folder).as_posix()] = FileEntry(sha256=sha256, bytes=path.stat().st_size)
        return entries

    def _swap(self) -> None:
        """Put the new folder in place; an earlier one is removed only after that."""
        check_output(self.out, self._force)
        put_in_place(self.folder, self.out)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what is unfinished; turn an OSError into an OutputError."""
        if not self._is_kept:
            shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise output_error_from_os(error, self.out) from error
