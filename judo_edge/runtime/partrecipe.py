"""How the parts of one kind are inspected, and what a store may keep: two TOML files beside the references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from judo_edge.config import Frozen, model_from_data, model_from_toml, toml_from_data
from judo_edge.errors import ConfigError
from judo_edge.files import write_atomic

RECIPE_FILE = "part.toml"
"""In the folder of a part."""
LIMITS_FILE = "store.toml"
"""In the folder of the store."""

AlignMethod = Literal["none", "ecc-translation", "ecc-euclidean", "ecc-affine", "features"]
ReasoningPolicy = Literal["always", "nok-only", "on-demand"]
Place = Literal["learned", "same", "anywhere"]
Share = Annotated[float, Field(ge=0, le=1)]


class PartRecipe(Frozen):
    """What `<store>/<part>/part.toml` may say; what it does not say is as here."""

    align: AlignMethod = "none"
    """How a frame is laid over its reference; not for a part whose place is inspected, which is then lost."""
    max_shift: Share = 0.2
    """Of the photo's longer side, at its centre; a frame that would have to move further is used as it is."""
    max_rotation: Annotated[float, Field(ge=0, le=180)] = 20.0
    """Degrees."""
    max_scale: Share = 0.1
    """By how much of its size a frame may be scaled."""
    max_shear: Share = 0.05
    """By how much more in one direction than across it."""
    min_overlap: Share = 0.7
    """Of the reference, that the moved frame must cover."""
    min_correlation: Share = 0.6
    """Between the frame and its reference after aligning; what is less alike does not show the same scene."""
    place: Place = "learned"
    """Where a patch is looked for in the references: at its own place, anywhere, or as the references say."""
    reasoning: ReasoningPolicy = "always"
    """When the model writes down its reasons."""
    max_references: Annotated[int, Field(ge=1)] = 64
    """The latest so many references are compared with."""


class StoreLimits(Frozen):
    """What `<store>/store.toml` may say."""

    max_megabytes: Annotated[int, Field(ge=0)] = 4096
    """Room for embeddings, keys and values in `<store>/.embeddings`, in MiB."""


def recipe_from_folder(folder: Path) -> PartRecipe:
    """Read the recipe in a part's folder; ConfigError names the key at fault."""
    path = folder / RECIPE_FILE
    return model_from_toml(PartRecipe, path) if path.exists() else PartRecipe()


def limits_from_folder(folder: Path) -> StoreLimits:
    """Read the limits in a store's folder; ConfigError names the key at fault."""
    path = folder / LIMITS_FILE
    return model_from_toml(StoreLimits, path) if path.exists() else StoreLimits()


def changed_recipe(recipe: PartRecipe, settings: Sequence[str]) -> PartRecipe:
    """Return a recipe with some `KEY=VALUE` settings changed; ConfigError for one that is unknown or not allowed."""
    changes: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}", "KEY=VALUE", f"one of {', '.join(PartRecipe.model_fields)}")
        changes[name.strip()] = value.strip()
    data: Mapping[str, object] = {**recipe.model_dump(), **changes}
    return model_from_data(PartRecipe, data, "--set")


def write_recipe(folder: Path, recipe: PartRecipe) -> None:
    """Write a recipe into a part's folder; OutputError when the disk refuses."""
    write_atomic(folder / RECIPE_FILE, toml_from_data(recipe.model_dump()).encode(), force=True)
