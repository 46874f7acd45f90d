"""From the name a user gives to an opened bundle: a folder, or a checkpoint that the package ships.

A shipped checkpoint is exported once into the user's cache folder and verified at every use. Export, and with it torch,
is imported only when that has to be done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import judo_edge
from judo_edge.bundle import Bundle, open_bundle
from judo_edge.errors import BundleError, DependencyError
from judo_edge.files import cache_folder, sha256_of_file

DEFAULT_RECIPE = "cpu-int8"


def bundle_from_name(name: str, note: Callable[[str], None] = lambda _: None, recipe: str = DEFAULT_RECIPE) -> Bundle:
    """Open a bundle folder, or the cached export of a shipped checkpoint; `note` is told when one is exported.

    Raises BundleError when it is neither, or was changed.
    """
    if Path(name).is_dir():
        return open_bundle(name)
    shipped = shipped_names()
    if name not in shipped:
        known = f"a bundle folder or one of {', '.join(shipped)}" if shipped else "a bundle folder"
        raise BundleError(f"{name} is not a folder", known, "judo-edge export CHECKPOINT --out BUNDLE")
    return _cached(name, recipe, note)


def shipped_names() -> tuple[str, ...]:
    """List the checkpoints that the package ships."""
    return tuple(sorted(path.parent.name for path in _assets().glob("*/config.json")))


def _assets() -> Path:
    return Path(judo_edge.__file__).parent / "assets"


def _cached(name: str, recipe: str, note: Callable[[str], None]) -> Bundle:
    folder = cache_folder() / f"{name}-{recipe}-{_digest(_assets() / name)[:12]}"
    if folder.is_dir():
        try:
            return open_bundle(folder)
        except BundleError as error:
            note(f"exporting {name} again: {error}")
    else:
        note(f"exporting {name} once to {folder}")
    return open_bundle(_exported(name, recipe, folder))


def _exported(name: str, recipe: str, folder: Path) -> Path:
    try:
        from judo_edge.export.pipeline import export_bundle
    except ModuleNotFoundError as error:
        found = f"{name} has to be exported, which needs the package {error.name!r}"
        elsewhere = f"run `judo-edge export {name} --out BUNDLE` where it is and copy that folder here"
        action = f"pip install 'judo-edge[export]', or {elsewhere}"
        raise DependencyError(found, "the extra export, or an exported bundle", action) from error
    return export_bundle(_assets() / name, recipe=recipe, out=folder, force=True, restart=True)  # seconds: none is kept


def _digest(folder: Path) -> str:
    """Return what decides the export: the checkpoint's own files and the version of this package."""
    digest = hashlib.sha256(judo_edge.__version__.encode())
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{path.name} {sha256_of_file(path)}\n".encode())
    return digest.hexdigest()
