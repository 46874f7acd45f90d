"""Photos that appear in a folder, as a camera: complete files only, each given out once. Knows no model.

Folders are looked at again and again, because network file systems tell nobody of a change. A file is complete when
its size and time have not changed for the settle time and it decodes; so both renaming into place and writing in
place will do. A photo that was given out is moved to `done/`, one that cannot be read to `failed/`: what is left is
what is still to be judged, also after a restart. Nothing is deleted.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from judo_edge.core import Image
from judo_edge.errors import CameraError, CameraFault, ConfigError, ImageError
from judo_edge.files import output_errors
from judo_edge.runtime.sources.camera import Camera, Grabbed
from judo_edge.vision.photos import PHOTO_SUFFIXES, image_from_file

DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class _Look:
    """What a file was when it was looked at, and since when it has been that."""

    size: int
    modified_ns: int
    since: float


class WatchedFolder(Camera):
    """The photos of one folder, oldest first (time of change, then name)."""

    def __init__(
        self,
        folder: Path,
        part_id: str = "",
        settle: float = 0.3,
        give_up: float = 10.0,
        poll: float = 0.1,
        keep_until_acknowledged: bool = False,
    ) -> None:
        """Name the folder; nothing is opened.

        `part_id` is a regular expression with a group of that name, searched in the file's name without suffix;
        ConfigError when it is none. `settle`, `give_up`, `poll` are seconds: unchanged for `settle` is complete,
        unreadable and unchanged for `give_up` is failed. A photo given out moves to `done/` when the next is asked
        for or the folder is closed, or, with `keep_until_acknowledged`, only by `acknowledge`: what a crash cut off
        then comes again.
        """
        self.folder, self.settle, self.give_up, self.poll = folder, settle, max(settle, give_up), poll
        self.keep_until_acknowledged = keep_until_acknowledged
        self._part_id = pattern_of_part_id(part_id) if part_id else None
        self._looks: dict[Path, _Look] = {}
        self._given: set[Path] = set()
        self._number = 0

    def open(self) -> None:
        """Make `done/` and `failed/`; CameraError when there is no folder, OutputError when it cannot be written to."""
        self.check()
        for name in (DONE, FAILED):
            with output_errors(self.folder / name):
                (self.folder / name).mkdir(exist_ok=True)

    def check(self) -> None:
        """Raise CameraError (unplugged) when the folder is gone, such as a network share."""
        if not self.folder.is_dir():
            raise CameraError(
                CameraFault.UNPLUGGED, f"no folder {self.folder}", "a folder that photos come into", "make or mount it"
            )

    def grab(self, timeout: float) -> Grabbed:
        """Return the next complete photo; CameraError: timeout, unplugged, or unreadable with the file's path and part.

        An unreadable file is in `failed/` when this raises.
        """
        self._move_given()
        deadline = time.monotonic() + timeout
        while True:
            if grabbed := self._next():
                return grabbed
            left = deadline - time.monotonic()
            if left <= 0:
                raise CameraError(CameraFault.TIMEOUT, f"no new photo in {self.folder} within {timeout:g} s")
            time.sleep(min(self.poll, left))

    def acknowledge(self, path: str) -> None:
        """Move a photo that was given out to `done/`."""
        photo = Path(path)
        if photo in self._given:
            self._move(photo, DONE)

    def close(self) -> None:
        """Move what was given out, unless it waits for its acknowledgement; none of it is given out again."""
        with suppress(CameraError):  # the folder is gone
            self._move_given()
        self._looks.clear()

    def _move_given(self) -> None:
        if not self.keep_until_acknowledged:
            for photo in sorted(self._given):
                self._move(photo, DONE)

    def _next(self) -> Grabbed | None:
        for photo in self._complete():
            path, part_id = str(photo), self._part_id_of(photo)
            try:
                image = image_from_file(photo)
            except ImageError as error:
                self._refuse_when_given_up(photo, error, part_id)
                continue
            return self._give(photo, image, path, part_id)
        return None

    def _give(self, photo: Path, image: Image, path: str, part_id: str) -> Grabbed:
        self._given.add(photo)
        self._number += 1
        return Grabbed(image, time.monotonic_ns(), self._number, path, part_id)

    def _refuse_when_given_up(self, photo: Path, error: ImageError, part_id: str) -> None:
        look = self._looks[photo]
        if time.monotonic() - look.since < self.give_up:
            return  # it may still be written to
        moved = self._move(photo, FAILED)
        raise CameraError(
            CameraFault.UNREADABLE, error.found, "a photo that decodes", f"see {moved}", part_id, str(moved)
        ) from error

    def _complete(self) -> list[Path]:
        """Look at every photo; list those unchanged for the settle time, oldest first."""
        now = time.monotonic()
        self._looks = {photo: self._look(photo, size, changed, now) for photo, size, changed in self._photos()}
        ready = [photo for photo, look in self._looks.items() if now - look.since >= self.settle and look.size]
        return sorted(ready, key=lambda photo: (self._looks[photo].modified_ns, photo.name))

    def _look(self, photo: Path, size: int, modified_ns: int, now: float) -> _Look:
        before = self._looks.get(photo)
        if before and (before.size, before.modified_ns) == (size, modified_ns):
            return before
        return _Look(size, modified_ns, now)

    def _photos(self) -> list[tuple[Path, int, int]]:
        found = []
        try:
            for photo in self.folder.iterdir():
                if (
                    photo.suffix.lower() in PHOTO_SUFFIXES
                    and not photo.name.startswith(".")
                    and photo not in self._given
                ):
                    status = photo.stat()
                    found.append((photo, status.st_size, status.st_mtime_ns))
        except OSError:
            self.check()  # one file that went is no fault, a folder that went is
        return found

    def _part_id_of(self, photo: Path) -> str:
        match = self._part_id.search(photo.stem) if self._part_id else None
        return (match.group("part_id") or "") if match else ""

    def _move(self, photo: Path, name: str) -> Path:
        target = _free_name(self.folder / name / photo.name)
        try:
            photo.rename(target)
        except FileNotFoundError:
            self.check()  # someone else took the file away: nothing left to move
        except OSError as error:
            found = f"{photo} cannot be moved to {name}/: {error.strerror}"
            raise CameraError(CameraFault.UNPLUGGED, found, "a folder that may be written to") from error
        self._given.discard(photo)
        self._looks.pop(photo, None)
        return target


def pattern_of_part_id(text: str) -> re.Pattern[str]:
    """Compile a regular expression with a group `part_id`; ConfigError when it is not one."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"part_id = {text!r}: {error}", "a regular expression", "correct it") from error
    if "part_id" not in pattern.groupindex:
        raise ConfigError(f"part_id = {text!r}", "a group named part_id, as in (?P<part_id>[^_]+)", "name the group")
    return pattern


def _free_name(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, ... that does not exist: nothing moved is ever written over."""
    count, free = 1, path
    while free.exists():
        count += 1
        free = path.with_name(f"{path.stem}-{count}{path.suffix}")
    return free
