"""Versions of recipes: everything that can change a verdict, named by its digest, on the disk before it is used.

`<data>/recipes/<internal id>.json` is written once and holds what is needed to judge like that again. Knows no model.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from judo_edge.config import Frozen
from judo_edge.errors import StationError
from judo_edge.files import output_errors, sha256_of_bytes, write_atomic
from judo_edge.runtime.partrecipe import PartRecipe
from judo_edge.station.results import Recipe, utc_now

FOLDER = "recipes"
"""Of the station's data folder."""
ID_LENGTH = 32
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


class Version(Frozen):
    """What decides verdicts: two versions that are equal judge alike."""

    part: str
    bundle_digest: str
    """`Bundle.subject_digest`: a verification of the bundle does not change it."""
    engine: str
    """Name in the registry."""
    reference_ids: tuple[str, ...]
    """Sorted."""
    decision_version: int | None
    decision_digest: str = ""
    """Of the calibrated decision's file; empty where JUDO's words decide."""
    settings: PartRecipe
    """The part's own `part.toml`."""

    @property
    def internal_id(self) -> str:
        """Return the first 32 hex digits of the SHA-256 over the canonical JSON of all fields."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return sha256_of_bytes(text.encode())[:ID_LENGTH]

    @property
    def references_digest(self) -> str:
        """Return the SHA-256 of the sorted reference ids, one a line."""
        return sha256_of_bytes("\n".join(self.reference_ids).encode())


class VersionRecord(Frozen):
    """A version with what is only noted of it."""

    format_version: Literal[1] = 1
    version: Version
    created: str
    """UTC, ISO 8601: when it was first prepared."""
    folders: tuple[str, ...]
    """Folders that held the bundle, the latest last; it is known again by its digest."""

    @property
    def internal_id(self) -> str:
        """Return the version's id."""
        return self.version.internal_id


class VersionShelf:
    """The versions that a station has prepared."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made with the first version."""
        self._folder = folder

    def read(self, internal_id: str) -> VersionRecord:
        """Return a version; StationError when it is not known, or its file was changed."""
        if not _ID.fullmatch(internal_id) or not (path := self._path(internal_id)).is_file():
            found = f"no version {internal_id[:ID_LENGTH]!r} of a recipe was prepared here"
            raise StationError(found, "the internal id of an earlier version", "list the recipes")
        return _record_from_file(path)

    def records(self) -> tuple[VersionRecord, ...]:
        """Return all versions that can be read, the oldest first."""
        found = (_record_or_none(path) for path in self._folder.glob("*.json"))
        return tuple(sorted((one for one in found if one), key=lambda one: (one.created, one.internal_id)))

    def keep(self, version: Version, folder: Path) -> VersionRecord:
        """Write a version down and return its record; one that is known only learns of another bundle folder.

        Raises OutputError when it cannot be written.
        """
        path, here = self._path(version.internal_id), str(folder.resolve())
        known = _record_or_none(path)  # one that is damaged is replaced by what was prepared just now
        if known and known.folders[-1] == here:
            return known
        earlier = [name for name in known.folders if name != here] if known else []
        record = VersionRecord(version=version, created=known.created if known else utc_now(), folders=(*earlier, here))
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (record.model_dump_json(indent=2) + "\n").encode(), force=True)
        return record

    def _path(self, internal_id: str) -> Path:
        return self._folder / f"{internal_id}.json"


def recipe_from_record(record: VersionRecord, external_id: str, bundle: str, signer: str) -> Recipe:
    """Return what façades see of a version that is ready."""
    version = record.version
    return Recipe(
        external_id=external_id,
        internal_id=record.internal_id,
        part=version.part,
        bundle=bundle,
        bundle_digest=version.bundle_digest,
        references_digest=version.references_digest,
        reference_ids=version.reference_ids,
        decision_version=version.decision_version,
        signer=signer,
        created=record.created,
        is_prepared=True,
    )


def _record_or_none(path: Path) -> VersionRecord | None:
    try:
        return _record_from_file(path)
    except StationError:
        return None


def _record_from_file(path: Path) -> VersionRecord:
    """Read a record; its name is the seal of what it says."""
    try:
        record = VersionRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StationError(
            f"{path}: {str(error).splitlines()[0]}", "a version of a recipe", "prepare it anew"
        ) from error
    if record.internal_id != path.stem or not record.folders:
        raise StationError(
            f"{path} was changed after it was written", "an unchanged file", "prepare the newest version"
        )
    return record
