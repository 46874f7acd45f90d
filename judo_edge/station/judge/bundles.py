"""The bundle of a recipe: the one that STATION.toml names, or an earlier one that is found by its digest."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from judo_edge.bundle import Bundle, open_bundle
from judo_edge.errors import BundleError, StationError
from judo_edge.files import cache_folder
from judo_edge.station.config import RecipeTable, StationConfig

EARLIER = "bundles"
"""Folder beside a recipe's bundle in which earlier bundles are looked for."""

_log = logging.getLogger(__name__)


def current_bundle(config: StationConfig, table: RecipeTable) -> Bundle:
    """Open and verify the bundle that a recipe names; a shipped model is exported once into the user's cache.

    Raises BundleError when it is missing or was changed.
    """
    from judo_edge.shipped import bundle_from_name

    folder = config.path(Path(table.bundle))
    return bundle_from_name(str(folder) if folder.is_dir() else table.bundle, _log.warning)


def bundle_by_digest(config: StationConfig, table: RecipeTable, digest: str, folders: Iterable[str]) -> Bundle:
    """Open and verify the bundle of an earlier version, wherever it lies now.

    `folders` are those that versions name. Raises StationError when none has this digest, BundleError when the one
    that has was changed.
    """
    for folder in _folders(config, table, folders):
        if _digest_of(folder) == digest:
            return open_bundle(folder)
    bundle = current_bundle(config, table)  # last: a shipped model is made again if need be
    if bundle.subject_digest == digest:
        return bundle
    found = f"no bundle {digest[:12]} for recipe {table.id!r}: {table.bundle} is {bundle.subject_digest[:12]} now"
    raise StationError(found, "that version's bundle", f"put it below {_beside(config, table)}")


def name_of_bundle(config: StationConfig, table: RecipeTable, bundle: Bundle) -> str:
    """Return what STATION.toml calls a bundle, or its folder where it is another one than the recipe's."""
    own = config.path(Path(table.bundle))
    is_shipped = not own.is_dir() and bundle.folder.parent == cache_folder()
    return table.bundle if is_shipped or bundle.folder.resolve() == own.resolve() else str(bundle.folder)


def _folders(config: StationConfig, table: RecipeTable, folders: Iterable[str]) -> Iterator[Path]:
    """Yield each folder that may hold the bundle once: the recipe's own, those beside it, those that are named."""
    own, beside = config.path(Path(table.bundle)), _beside(config, table)
    shelves = [beside, own.parent] if own.parent.name == EARLIER else [beside]
    below = [path for shelf in shelves if shelf.is_dir() for path in sorted(shelf.iterdir())]
    seen: set[Path] = set()
    for folder in (own, *below, *map(Path, folders)):
        resolved = folder.resolve()
        if resolved not in seen and resolved.is_dir():
            seen.add(resolved)
            yield folder


def _digest_of(folder: Path) -> str:
    """Return the digest that a folder's manifest says; empty when it is no bundle."""
    try:
        return open_bundle(folder, verify=False).subject_digest
    except BundleError as error:
        _log.info("%s is passed over: %s", folder, error)
        return ""


def _beside(config: StationConfig, table: RecipeTable) -> Path:
    own = config.path(Path(table.bundle))
    return (own.parent if own.is_dir() else config.folder) / EARLIER
