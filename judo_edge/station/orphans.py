"""Files of the archive that no result names: left behind when a process ended between file and row.

Goes through the archive one day's folder at a time, and removes only what is older than an hour. What is older than the
ledger stays too: after a damaged ledger was put aside, a new one knows nothing of it. Blocks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

MIN_AGE_SECONDS = 3600.0
"""A younger file may be one whose row is about to be written."""

Known = Callable[[Sequence[str]], Collection[str]]
"""Those of some names, relative to the archive, that a result has."""


class Orphans:
    """A walk through the archive that is repeated for ever, a folder a step."""

    def __init__(self, archive: Path, known: Known, began: Callable[[], float]) -> None:
        """Name the archive, what tells of which files results know, and since when (seconds since 1970)."""
        self._archive, self._known, self._began = archive, known, began
        self._folders: Iterator[Path] = iter(())

    def step(self) -> int:
        """Look at the next folder, or begin again behind the last one; returns how many files were removed."""
        folder = next(self._folders, None)
        if folder is None:
            days = sorted(self._archive.glob("[0-9]*-[0-9]*-[0-9]*"))
            self._folders = iter([path for day in days for path in sorted(day.iterdir()) if path.is_dir()])
            return 0
        return self._clean(folder)

    def _clean(self, folder: Path) -> int:
        began, limit = self._began(), time.time() - MIN_AGE_SECONDS
        old = [path for path in folder.iterdir() if path.is_file() and began <= path.stat().st_mtime < limit]
        names = {path.relative_to(self._archive).as_posix(): path for path in old}
        known = self._known(list(names)) if names else ()
        orphans = [path for name, path in names.items() if name not in known]
        for path in orphans:
            path.unlink(missing_ok=True)
        if folder.stat().st_mtime < limit:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
                folder.parent.rmdir()
        return len(orphans)
