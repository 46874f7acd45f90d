"""References as the station shows them."""

from __future__ import annotations

from pathlib import Path

from judo_edge.runtime.references import Reference, ReferenceStore, folder_from_part
from judo_edge.station.results import ReferenceInfo
from judo_edge.vision.photos import image_from_file


class ReferenceShelf:
    """The references of all parts, by what façades know of them."""

    def __init__(self, store: ReferenceStore) -> None:
        """Take the store."""
        self._store = store

    def references(self, part: str) -> tuple[ReferenceInfo, ...]:
        """Return the references of a part, retired ones too, in order of enrolment."""
        return tuple(info_from_reference(one) for one in self._store.references(part, retired=True))

    def enroll(self, part: str, photo: Path, source: str) -> ReferenceInfo:
        """Enrol the photo in a file; InputError when it cannot be decoded or its pixels are in use already."""
        image = image_from_file(photo)
        return info_from_reference(self._store.enroll(part, image, source or photo.name))

    def retire(self, part: str, reference_id: str) -> ReferenceInfo:
        """Take a reference out of use; InputError when there is none of that id."""
        return info_from_reference(self._store.retire(part, reference_id))

    def file(self, part: str, reference_id: str) -> Path | None:
        """Return the path of a reference's photo; None when there is none of that id."""
        known = {one.reference_id for one in self._store.references(part, retired=True)}
        path = self._store.folder / folder_from_part(part) / f"{reference_id}.png"
        return path if reference_id in known and path.is_file() else None


def info_from_reference(reference: Reference) -> ReferenceInfo:
    """Return what façades see of a reference."""
    return ReferenceInfo(
        reference_id=reference.reference_id,
        part=reference.part,
        source=reference.source,
        enrolled=reference.enrolled,
        retired=reference.retired or "",
    )
