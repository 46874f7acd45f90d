"""Challenge parts on the disk: photos that must fail and photos that must pass, with the hash of each.

`<folder>/<recipe id>/fail` and `<folder>/<recipe id>/pass` hold them. Knows nothing of how they are judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from judo_edge.core import Decision
from judo_edge.files import sha256_of_file
from judo_edge.vision.photos import PHOTO_SUFFIXES

_WANTED = {"fail": Decision.NOK, "pass": Decision.OK}


class Master(NamedTuple):
    """One challenge part."""

    name: str
    """`fail/` or `pass/` and the file's name."""
    path: Path
    wanted: Decision
    """What the station must say of it."""


def masters_of_recipe(folder: Path, external_id: str) -> tuple[Master, ...]:
    """Return the challenge parts of a recipe, those that must fail first; none when its folders are absent."""
    return tuple(_masters(folder / external_id))


def _masters(folder: Path) -> Iterator[Master]:
    for kind, wanted in _WANTED.items():
        for path in sorted((folder / kind).glob("*")):
            if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file():
                yield Master(f"{kind}/{path.name}", path, wanted)


def hashes_of_masters(masters: Sequence[Master]) -> dict[str, str]:
    """Return the SHA-256 of each file by name; empty for one that cannot be read."""
    return {master.name: _sha256(master.path) for master in masters}


def differences(known: Mapping[str, str], found: Mapping[str, str]) -> tuple[str, ...]:
    """Say which of the known challenge parts are missing, unreadable or other files now; new ones are no difference."""
    return tuple(
        f"{name} {'was changed' if found.get(name) else 'is missing' if name not in found else 'cannot be read'}"
        for name, sha256 in sorted(known.items())
        if found.get(name) != sha256
    )


def _sha256(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError:
        return ""
