"""Enrolled good parts: the store on disk, and the choice of one for a frame by its pixels.

A store is a folder: `<part>/<id>.png` holds the decoded pixels, `<part>/<id>.json` what is known of them. The JSON is
written last, so a reference exists when its JSON does. `<part>/part.toml` says how the part is inspected; `.embeddings`
holds what engines computed of references. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from judo_edge.core import Frame, Image
from judo_edge.errors import InputError
from judo_edge.files import output_errors, write_atomic
from judo_edge.runtime.arraystore import ArrayStore
from judo_edge.runtime.partrecipe import PartRecipe, limits_from_folder, recipe_from_folder, write_recipe
from judo_edge.runtime.photos import png_from_image, thumbnail_from_image
from judo_edge.vision.photos import image_from_file, sha256_from_image

ID_LENGTH = 16
"""Hex digits of the pixels' SHA-256 that name a reference."""
ARRAYS_FOLDER = ".embeddings"
"""Where a store keeps what was computed of its references; it may be removed at any time."""


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

    def candidates(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
        """Return the references that a frame may be compared with, in order of enrolment; InputError for none."""
        ...

    def pick(self, frame: Frame) -> ReferencePhoto:
        """Choose one by the pixels, before anything is encoded; InputError when there is none."""
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
        folders = (entry for entry in self.folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        return tuple(sorted(unquote(entry.name) for entry in folders))

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
        """Return the references of a part ready for inspection, the latest ones if its recipe has fewer.

        InputError when none is enrolled or one was changed, ConfigError when the recipe is not right.
        """
        references = self.references(part)
        if not references:
            known = ", ".join(self.parts()) or "none"
            found = f"no reference of part {part!r} in {self.folder}"
            raise InputError(found, f"an enrolled part ({known})", f"judo-edge enroll --part {part} GOOD_PHOTOS")
        latest = references[-self.recipe(part).max_references :]
        return NearestReference([self._photo(reference) for reference in latest])

    def recipe(self, part: str) -> PartRecipe:
        """Return how a part is inspected; ConfigError when its recipe is not right."""
        return recipe_from_folder(self.folder / folder_from_part(part))

    def set_recipe(self, part: str, recipe: PartRecipe) -> None:
        """Say how a part is inspected; OutputError when the disk refuses."""
        folder = self.folder / folder_from_part(part)
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_recipe(folder, recipe)

    def arrays(self) -> ArrayStore:
        """Return the store of what engines compute of the references; those in use are pinned.

        ConfigError when the store's limits are not right.
        """
        limits = limits_from_folder(self.folder)
        return ArrayStore(self.folder / ARRAYS_FOLDER, limits.max_megabytes << 20, self.ids_in_use)

    def ids_in_use(self) -> frozenset[str]:
        """Return the ids of the references of all parts that are in use; one that cannot be read counts as such."""
        return frozenset(path.stem for path in self.folder.glob("*/*.json") if not _is_retired(path))

    def _photo(self, reference: Reference) -> ReferencePhoto:
        return ReferencePhoto(reference.reference_id, reference.sha256, lambda: self.image(reference))

    def _described(self, part: str, image: Image, sha256: str, source: str) -> Reference:
        height, width = image.shape[:2]
        about = {"part": part, "source": source, "enrolled": _now()}
        return Reference(reference_id=sha256[:ID_LENGTH], sha256=sha256, width=width, height=height, **about)

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
        thumbnails = [thumbnail_from_image(photo.load()) for photo in photos] if len(photos) > 1 else []
        self._thumbnails = np.stack(thumbnails) if thumbnails else None

    def candidates(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
        """Return all of them."""
        return self.photos

    def pick(self, frame: Frame) -> ReferencePhoto:
        """Return the nearest reference."""
        if self._thumbnails is None:
            return self.photos[0]
        distances = np.abs(self._thumbnails - thumbnail_from_image(frame.image)).mean(axis=(1, 2, 3))
        return self.photos[int(np.argmin(distances))]


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


def _is_retired(path: Path) -> bool:
    try:
        return _reference_from_file(path).retired is not None
    except InputError:
        return False


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
