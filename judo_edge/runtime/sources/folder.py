"""Frames from photo files: a folder, a file or a pattern. Knows no model and decides nothing."""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from judo_edge.core import Frame
from judo_edge.errors import ImageError, InputError
from judo_edge.vision.photos import PHOTO_SUFFIXES, image_from_file


@dataclass(frozen=True)
class Unreadable:
    """A frame that should have come and did not: it still gets its verdict."""

    frame_id: str
    part: str
    path: str
    reason: str
    """One line: what is wrong with the file."""


class FolderSource:
    """The photos of one part, read one at a time in the order of their names."""

    def __init__(self, paths: tuple[Path, ...], part: str) -> None:
        """Name the files; nothing is opened before iteration."""
        self.paths = paths
        self.part = part

    def __len__(self) -> int:
        """Count the files."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame | Unreadable]:
        """Yield every file as a frame, or as unreadable: a bad file never ends the run."""
        for frame_id, path in zip(frame_ids_from_paths(self.paths), self.paths, strict=True):
            yield self._read(frame_id, path)

    def _read(self, frame_id: str, path: Path) -> Frame | Unreadable:
        try:
            return Frame(frame_id, self.part, image_from_file(path), time.monotonic_ns(), str(path))
        except ImageError as error:
            return Unreadable(frame_id, self.part, str(path), str(error))


def paths_from_pattern(pattern: str) -> tuple[Path, ...]:
    """List the photos that a folder, a file or a pattern (`**` works) names; InputError when there are none.

    A folder gives the files with a photo's suffix; a file or a pattern gives what it names, whatever the suffix.
    """
    folder = Path(pattern)
    if folder.is_dir():
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())
    elif folder.is_file():
        found = [folder]
    else:
        named = glob.glob(pattern, recursive=True)  # noqa: PTH207 - a pattern may be absolute
        found = sorted(path for path in map(Path, named) if path.is_file())
    if not found:
        raise InputError(f"no photo in {pattern}", f"files ending in {', '.join(sorted(PHOTO_SUFFIXES))}", "check it")
    return tuple(found)


def frame_ids_from_paths(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """Return unique names for files: the name without suffix, then a count where names repeat."""
    seen: dict[str, int] = {}
    taken = {path.stem for path in paths}
    names = []
    for path in paths:
        seen[path.stem] = count = seen.get(path.stem, 0) + 1
        name = path.stem
        while count > 1 and name in taken:
            name, count = f"{path.stem}-{count}", count + 1
        taken.add(name)
        names.append(name)
    return tuple(names)
