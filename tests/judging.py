"""A station's folder for tests of its inspector: a bundle, enrolled parts, spooled photos, and a file that says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.core import Image
from judo_edge.runtime.references import ReferenceStore
from judo_edge.station.config import RecipeTable, StationConfig, StationTable
from judo_edge.station.workers import SPOOL_NAME, Spooled


def station_config(folder: Path, bundle: str = "bundle", part: str = "lid", **tables: Any) -> StationConfig:
    """Return a station with one recipe, named as its part; `recipe` says more of it, `tables` are further ones."""
    recipe = RecipeTable(id=part, bundle=bundle, **tables.pop("recipe", {}))
    return StationConfig(station=StationTable(name="test"), recipes=(recipe,), folder=folder, **tables)


def enrolled(config: StationConfig, *images: Image, part: str = "lid") -> list[str]:
    """Enrol photos and return their ids."""
    store = ReferenceStore(config.store)
    return [store.enroll(part, image, f"{number}.png").reference_id for number, image in enumerate(images)]


def spooled(run_folder: Path, image: Image, name: str = "photo.npy") -> Spooled:
    """Spool a photo as a camera does."""
    folder = run_folder / SPOOL_NAME
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / name, image, allow_pickle=False)
    return Spooled(file=name, captured_ns=time.monotonic_ns(), captured="2026-01-01T00:00:00.000000+00:00")
