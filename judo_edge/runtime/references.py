"""Enrolled good parts: the store on disk, the choice of one for a frame, and the cache of their embeddings.

A store is a folder: `<part>/<id>.png` holds the decoded pixels, `<part>/<id>.json` what is known of them. The JSON is
written last, so a reference exists when its JSON does. Knows no model: an embedding is whatever the caller computes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from judo_edge.core import Floats, Frame, Image
from judo_edge.errors import InputError
from judo_edge.files import output_errors, write_atomic
from judo_edge.runtime.photos import png_from_image, thumbnail_from_image
from judo_edge.vision.photos import image_from_file, sha256_from_image

ID_LENGTH = 16
"""Hex digits of the pixels' SHA-256 that name a reference."""


class Reference(BaseModel):
    """What is known of one enrolled photo, without its pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = 1
    reference_id: str
    """The first digits of `sha256`."""
    part: str
    sha256: str
    """Hex digest of the decoded pixels and their shape."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    source: str
    """Name of the file that it was enrolled from."""
    enrolled: str
    """UTC, ISO 8601."""
    retired: str | None = None
    """UTC, ISO 8601, None while in use."""


@dataclass(frozen=True)
class ReferencePhoto:
    """A reference at hand: its name, the key of its pixels, and a way to get them."""

    reference_id: str
    sha256: str
    load: Callable[[], Image]


class References(Protocol):
    """Where the inspector gets the good part to compare a frame with."""

    def pick(self, frame: Frame) -> ReferencePhoto:
        """Return the reference for a frame; InputError when there is none."""
        ...


class ReferenceStore:
    """The folder of enrolled good parts."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made at the first enrolment."""
        self.folder = folder

    def parts(self) -> tuple[str, ...]:
        """List the parts that have a folder."""
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(unquote(entry.name) for entry in self.folder.iterdir() if entry.is_dir()))

    def enroll(self, part: str, image: Image, source: str) -> Reference:
        """Add a photo of a good part; InputError when the same pixels are enrolled for it already."""
        sha256 = sha256_from_image(image)
        known = self.known(part, image)
        if known is not None:
            found = f"{source}: the same pixels as {known.source} ({known.reference_id})"
            raise InputError(found, f"a new photo of {part}", "leave it out")
        reference = self._described(part, image, sha256, source)
        self._write(reference, "png", png_from_image(image))
        self._describe(reference)
        return reference

    def known(self, part: str, image: Image) -> Reference | None:
        """Return the reference in use that has these pixels, if any."""
        found = self._read_all(part).get(sha256_from_image(image)[:ID_LENGTH])
        return found if found is not None and found.retired is None else None

    def references(self, part: str, retired: bool = False) -> tuple[Reference, ...]:
        """List the references of a part in order of enrolment; retired ones only when asked for."""
        found = (ref for ref in self._read_all(part).values() if retired or ref.retired is None)
        return tuple(sorted(found, key=lambda ref: (ref.enrolled, ref.reference_id)))

    def image(self, reference: Reference) -> Image:
        """Return the pixels of a reference; InputError when they are not those that were enrolled."""
        path = self._path(reference.part, reference.reference_id, "png")
        image = image_from_file(path)
        if sha256_from_image(image) != reference.sha256:
            raise InputError(f"{path}: pixels changed since enrolment", reference.sha256, "retire it and enrol again")
        return image

    def retire(self, part: str, reference_id: str) -> Reference:
        """Take a reference out of use; its files stay, so that earlier verdicts can be explained."""
        known = self._read_all(part)
        if reference_id not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InputError(f"reference {reference_id!r} of part {part!r}", f"one of {listed}", "check the id")
        retired = known[reference_id].model_copy(update={"retired": _now()})
        self._describe(retired)
        return retired

    def photos(self, part: str) -> NearestReference:
        """Return the references of a part ready for inspection; InputError when none is enrolled or one was changed."""
        references = self.references(part)
        if not references:
            known = ", ".join(self.parts()) or "none"
            found = f"no reference of part {part!r} in {self.folder}"
            raise InputError(found, f"an enrolled part ({known})", f"judo-edge enroll --part {part} GOOD_PHOTOS")
        return NearestReference([self._photo(reference) for reference in references])

    def _photo(self, reference: Reference) -> ReferencePhoto:
        return ReferencePhoto(reference.reference_id, reference.sha256, lambda: self.image(reference))

    def _described(self, part: str, image: Image, sha256: str, source: str) -> Reference:
        height, width = image.shape[:2]
        short = sha256[:ID_LENGTH]
        return Reference(
            reference_id=short,
            part=part,
            sha256=sha256,
            width=width,
            height=height,
            source=source,
            enrolled=_now(),
        )

    def _path(self, part: str, reference_id: str, suffix: str) -> Path:
        return self.folder / folder_from_part(part) / f"{reference_id}.{suffix}"

    def _describe(self, reference: Reference) -> None:
        self._write(reference, "json", (reference.model_dump_json(indent=2) + "\n").encode())

    def _write(self, reference: Reference, suffix: str, content: bytes) -> None:
        path = self._path(reference.part, reference.reference_id, suffix)
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content, force=True)

    def _read_all(self, part: str) -> dict[str, Reference]:
        folder = self.folder / folder_from_part(part)
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        return {path.stem: _reference_from_file(path) for path in files}


class NearestReference:
    """Picks the enrolled photo whose thumbnail is nearest to the frame's; the first one enrolled wins a tie.

    The measure is the mean absolute difference of (32, 32, 3) thumbnails without their mean brightness: enough to tell
    variants and poses of a part apart, blind to small defects, which is what a choice of reference wants.
    """

    def __init__(self, photos: Sequence[ReferencePhoto]) -> None:
        """Read every photo once for its thumbnail; a single photo needs none."""
        self.photos = tuple(photos)
        self._thumbnails = [thumbnail_from_image(photo.load()) for photo in photos] if len(photos) > 1 else []

    def pick(self, frame: Frame) -> ReferencePhoto:
        """Return the nearest reference."""
        if len(self.photos) == 1:
            return self.photos[0]
        thumbnail = thumbnail_from_image(frame.image)
        distances = [float(np.abs(thumbnail - other).mean()) for other in self._thumbnails]
        return self.photos[int(np.argmin(distances))]


class EmbeddingCache:
    """The most recently used reference embeddings, in memory."""

    def __init__(self, max_entries: int = 64) -> None:
        """Keep at most `max_entries` embeddings; one is (T, D) float32."""
        self._max_entries = max_entries
        self._rows: OrderedDict[str, Floats] = OrderedDict()

    def __len__(self) -> int:
        """Count the embeddings that are kept."""
        return len(self._rows)

    def get(self, key: str, compute: Callable[[], Floats]) -> Floats:
        """Return the embedding of a key, computed when it is not known."""
        if key not in self._rows:
            self._rows[key] = np.array(compute(), dtype=np.float32, copy=True)
            while len(self._rows) > self._max_entries:
                self._rows.popitem(last=False)
        self._rows.move_to_end(key)
        return self._rows[key]


def photo_from_file(path: Path) -> ReferencePhoto:
    """Return a reference that is not enrolled, straight from a file; ImageError when it cannot be decoded."""
    image = image_from_file(path)
    sha256 = sha256_from_image(image)
    return ReferencePhoto(sha256[:ID_LENGTH], sha256, lambda: image)


def folder_from_part(part: str) -> str:
    """Return the folder name of a part: its name with everything but letters, digits, `_`, `-` and `~` escaped."""
    if not part:
        raise InputError("an empty part name", "a part number", "give --part")
    return quote(part, safe="").replace(".", "%2E")


def _reference_from_file(path: Path) -> Reference:
    try:
        return Reference.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}", "a reference", "enrol the photo again") from error


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
