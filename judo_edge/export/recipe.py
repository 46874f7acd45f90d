"""Export recipes: which form every weight takes. Data in TOML files, found by name or given as a file.

Knows forms and tensor names; does not make the forms (`quantize`) and reads no weights.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

import judo_edge
from judo_edge.config import model_from_toml
from judo_edge.errors import ConfigError
from judo_edge.export.graphs import LinearUse

LinearForm = Literal["float32", "int8"]

_HEAD = "lm_head.weight"
_PATCHES = "visual.patch_embed.proj.weight"


class Frozen(BaseModel):
    """Base of the models here: immutable, unknown keys refused, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Int8Form(Frozen):
    """Weight-only int8 in blocks along the input, computed by ONNX Runtime's MatMulNBits."""

    block: Literal[16, 32, 64, 128, 256] = 128
    """Weights of one output that share a scale."""
    accuracy_level: Literal[1, 4] = 4
    """Type of the products: 1 = float32, 4 = int8. 0 is refused: with 8-bit weights it takes 90-128 ms per layer."""


class Recipe(Frozen):
    """One target's choice of forms."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    description: str = ""
    engine: Literal["onnxruntime"]
    """Engine of the runtime that the forms are made for."""
    decoder_linears: LinearForm
    lm_head: LinearForm
    vision_linears: LinearForm
    """The patch embedding stays float32 in any case: it is small and first in line."""
    embedding: Literal["float32", "float16"]
    keep_float: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Shell patterns of tensors that stay float32."""
    int8: Int8Form | None = None
    """Required as soon as a form is int8."""

    @model_validator(mode="after")
    def _check_int8(self) -> Recipe:
        wanted = "int8" in (self.decoder_linears, self.lm_head, self.vision_linears)
        if wanted != (self.int8 is not None):
            raise ValueError("a table [int8] exactly when a form is int8")
        return self

    def int8_of(self, graph: str, linear: LinearUse) -> Int8Form | None:
        """Return the int8 form of a linear layer of the graph `vision` or `decoder`, None for float32."""
        if linear.weight == _PATCHES or self.is_kept(linear.weight):
            return None
        form = self.lm_head if linear.weight == _HEAD else self.decoder_linears
        return self.int8 if (self.vision_linears if graph == "vision" else form) == "int8" else None

    def is_kept(self, tensor: str) -> bool:
        """Tell whether `keep_float` names a tensor."""
        return any(fnmatchcase(tensor, pattern) for pattern in self.keep_float)

    def check_patterns(self, tensors: list[str]) -> None:
        """Raise ConfigError for a pattern of `keep_float` that names no tensor: most likely a typing error."""
        for pattern in self.keep_float:
            if not any(fnmatchcase(tensor, pattern) for tensor in tensors):
                raise ConfigError(f"recipe {self.name}: keep_float names no tensor by {pattern!r}", "a tensor's name")


def recipe_folder() -> Path:
    """Return the folder of the shipped recipes: inside the installed package, or `export/` of a source checkout."""
    package = Path(judo_edge.__file__).parent
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "export"


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes, sorted."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def load_recipe(name_or_file: str | Path) -> Recipe:
    """Read a shipped recipe by name or any recipe file; ConfigError lists the shipped ones, or names the wrong key."""
    path = Path(name_or_file)
    if str(name_or_file) in recipe_names():
        path = recipe_folder() / f"{name_or_file}.toml"
    elif not path.is_file():
        names = ", ".join(recipe_names())
        raise ConfigError(f"no recipe {str(name_or_file)!r}", f"one of {names}, or a TOML file")
    return model_from_toml(Recipe, path)
