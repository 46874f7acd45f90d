"""Opening a bundle: read the manifest, then check that the folder holds exactly what it lists.

Refuses a changed, missing or extra file by name; what an interrupted `judo-edge verify` left beside is passed over, as
nothing reads it. Does not open graphs and does not know the runtime.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from judo_edge.bundle.manifest import FORMAT_VERSION, MANIFEST_NAME, FileEntry, GraphEntry, Manifest
from judo_edge.errors import BundleError
from judo_edge.files import sha256_of_bytes, sha256_of_file

_EXPORT_AGAIN = "export the bundle again"
LEFT_OVER = re.compile(rf"acceptance-[0-9a-f]{{12}}\.json(\.partial-\d+)?|{re.escape(MANIFEST_NAME)}\.partial-\d+")
"""What an interrupted verification may leave: a report has a name of its own, so it never spoils the listed one."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle."""

    folder: Path
    manifest: Manifest
    digest: str
    """SHA-256 of manifest.json: names the bundle in caches and reports."""
    subject_digest: str = ""
    """SHA-256 of the manifest without what `verify` adds to it: names what a verification was about."""

    @property
    def content_digest(self) -> str:
        """Return the SHA-256 over the sorted names and hashes of all files but the acceptance report.

        Engines built from the bundle are kept under it: a verification does not change them.
        """
        acceptance = self.manifest.acceptance
        report = acceptance.report if acceptance else None
        files = sorted(self.manifest.files.items())
        return sha256_of_bytes("".join(f"{name} {item.sha256}\n" for name, item in files if name != report).encode())

    def without_acceptance(self) -> Bundle:
        """Return the bundle as if it had never been verified: what a verification looks at."""
        return replace(self, manifest=self.manifest.model_copy(update={"acceptance": None}))

    def path_of(self, name: str) -> Path:
        """Return the path of a listed file; raises BundleError for any other name."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.folder}: {name} is not a file of this bundle", action=_EXPORT_AGAIN)
        return self.folder / name

    def graph(self, name: str) -> tuple[Path, GraphEntry]:
        """Return path and description of a graph; raises BundleError that lists the choices."""
        entry = self.manifest.graphs.get(name)
        if entry is None:
            raise BundleError(f"{self.folder} has no graph {name!r}", f"one of {', '.join(self.manifest.graphs)}")
        return self.path_of(entry.file), entry

    def embedding_table(self) -> npt.NDArray[np.floating]:
        """Map the token embedding table read-only: (vocabulary, hidden size), float32 or float16."""
        entry = self.manifest.embedding
        return np.memmap(self.path_of(entry.file), dtype=np.dtype(entry.dtype), mode="r", shape=entry.shape)


def open_bundle(path: str | Path, verify: bool = True) -> Bundle:
    """Open a bundle folder; `verify` also compares every SHA-256, without it only names and sizes.

    Raises BundleError that names the file which is missing, extra, changed or not understood.
    """
    folder = Path(path)
    raw = _manifest_bytes(folder)
    manifest = _manifest_from_bytes(folder, raw)
    _check_names(folder, manifest)
    for name, entry in manifest.files.items():
        _check_file(folder, name, entry, verify)
    _check_embedding(folder, manifest)
    return Bundle(folder, manifest, sha256_of_bytes(raw), _subject_digest(raw))


def _manifest_bytes(folder: Path) -> bytes:
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder", "a bundle made by judo-edge export")
    try:
        return (folder / MANIFEST_NAME).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(f"{folder / MANIFEST_NAME}: {reason}", "a bundle made by judo-edge export") from error


def _manifest_from_bytes(folder: Path, raw: bytes) -> Manifest:
    where = folder / MANIFEST_NAME
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON ({error})", action=_EXPORT_AGAIN) from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        wanted = f"format_version {FORMAT_VERSION}"
        raise BundleError(f"{where} has format_version {version!r}", wanted, f"{_EXPORT_AGAIN} with this version")
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(f"{where}: {key}: {first['msg']}", action=_EXPORT_AGAIN) from error


def _subject_digest(raw: bytes) -> str:
    """Hash the manifest without its acceptance and that report's entry; spaces and the order of keys do not matter."""
    content = json.loads(raw)
    report = (content.pop("acceptance", None) or {}).get("report")
    content.get("files", {}).pop(report, None)
    return sha256_of_bytes(json.dumps(content, sort_keys=True).encode())


def _check_names(folder: Path, manifest: Manifest) -> None:
    """Compare the names in the folder with those in the manifest."""
    for name in manifest.unlisted():
        raise BundleError(f"{folder / MANIFEST_NAME} uses {name} but does not list it", action=_EXPORT_AGAIN)
    present = {item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_symlink() or item.is_file()}
    present.discard(MANIFEST_NAME)
    for name in sorted(set(manifest.files) - present):
        raise BundleError(f"{folder / name} is missing", action=_EXPORT_AGAIN)
    for name in sorted(name for name in present - set(manifest.files) if not LEFT_OVER.fullmatch(name)):
        raise BundleError(f"{folder / name} is not listed in the manifest", action="move it out of the bundle")


def _check_file(folder: Path, name: str, entry: FileEntry, verify: bool) -> None:
    path = folder / name
    if any((folder / part).is_symlink() for part in (name, *map(str, Path(name).parents))):
        raise BundleError(f"{path} is a symbolic link", "a plain file", _EXPORT_AGAIN)
    size = path.stat().st_size
    if size != entry.bytes:
        raise BundleError(f"{path} was changed: {size} bytes", f"{entry.bytes} bytes", _EXPORT_AGAIN)
    if verify and (digest := sha256_of_file(path)) != entry.sha256:
        raise BundleError(f"{path} was changed: SHA-256 {digest}", entry.sha256, _EXPORT_AGAIN)


def _check_embedding(folder: Path, manifest: Manifest) -> None:
    """Refuse a table whose size does not follow from its shape: it would be read past its end."""
    entry = manifest.embedding
    wanted = entry.shape[0] * entry.shape[1] * np.dtype(entry.dtype).itemsize
    if (size := manifest.files[entry.file].bytes) != wanted:
        found = f"{folder / entry.file} holds {size} bytes"
        raise BundleError(found, f"{wanted} bytes for shape {entry.shape} {entry.dtype}", _EXPORT_AGAIN)
