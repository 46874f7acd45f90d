"""Export recipes: which form every weight takes, and how the graphs are cut. Data in TOML files.

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

LinearForm = Literal["float", "int8-block", "int8-channel", "int8-static", "int4-block"]
"""`float` is the graph's own type. `int8-block` is weight-only in blocks along the input; `int8-channel` is weight-only
with one scale for each output; `int8-static` also rounds the activations, by calibrated scales; `int4-block` is
weight-only, 4 bits in blocks."""
VisionForm = Literal["float", "int8-block", "int8-channel"]
FloatName = Literal["float32", "float16"]

_HEAD = "lm_head.weight"
_PATCHES = "visual.patch_embed.proj.weight"
_TABLES = {"int8": "int8-block", "int4": "int4-block", "static": "int8-static"}
"""Table of the file -> the form that it belongs to."""
_NEEDED = ("int8", "int4")


class Frozen(BaseModel):
    """Base of the models here: immutable, unknown keys refused, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Int8Form(Frozen):
    """Weight-only int8 in blocks along the input, computed by ONNX Runtime's MatMulNBits."""

    block: Literal[16, 32, 64, 128, 256] = 128
    """Weights of one output that share a scale."""
    accuracy_level: Literal[1, 4] = 4
    """Type of the products: 1 = float32, 4 = int8. 0 is refused: with 8-bit weights it takes 90-128 ms per layer."""


class Int4Form(Frozen):
    """Weight-only int4 in blocks along the input: MatMulNBits in ONNX Runtime, DequantizeLinear in TensorRT."""

    block: Literal[16, 32, 64, 128] = 128
    """Weights of one output that share a scale."""
    accuracy_level: Literal[1, 4] = 4
    """Type of the products in ONNX Runtime: 1 = float32, 4 = int8. TensorRT multiplies in the graph's type."""


class ErrorLimit(Frozen):
    """A limit on a layer's calibrated relative output error; a layer above it takes the next better form."""

    max_error: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Greatest ||quantized - float|| / ||float||."""


class Recipe(Frozen):
    """One target's choice of forms."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    description: str = ""
    engine: Literal["onnxruntime", "tensorrt"]
    """Engine of the runtime that the forms are made for."""
    dialect: Literal["legacy", "modern"] = "legacy"
    """Operators of the graphs: decomposed (TensorRT before 10.15), or opset 24."""
    dtype: FloatName = "float32"
    """Type of activations and of every weight that is not quantized."""
    decoder_linears: LinearForm
    lm_head: LinearForm
    vision_linears: VisionForm
    """The patch embedding stays float in any case: it is small and first in line."""
    embedding: FloatName
    scales: Literal["max-abs", "least-squares"] = "max-abs"
    """How the range of a channel or block is chosen: its largest weight, or clipped where that lowers the squared
    error. Not for `int8-block`."""
    layers_per_segment: Annotated[int, Field(ge=0)] = 0
    """Decoder layers in one graph; 0 = the whole decoder with its head."""
    head_parts: Annotated[int, Field(ge=1)] = 1
    """Graphs that the head is cut into, by rows of the vocabulary."""
    keep_float: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Shell patterns of tensors that stay float."""
    int8: Int8Form | None = None
    """Required as soon as a form is int8-block."""
    int4: Int4Form | None = None
    """Required as soon as a form is int4-block."""
    static: ErrorLimit | None = None
    """A layer that exceeds it as int8-static becomes int8-channel."""
    sensitive: ErrorLimit | None = None
    """A layer that exceeds it in its own form stays float; needs a calibration."""

    @model_validator(mode="after")
    def _check_tables(self) -> Recipe:
        for table, form in _TABLES.items():
            given, used = getattr(self, table) is not None, form in self.forms
            if given and not used:
                raise ValueError(f"a table [{table}] only when a form is {form}")
            if used and not given and table in _NEEDED:
                raise ValueError(f"a table [{table}] exactly when a form is {form}")
        return self

    @model_validator(mode="after")
    def _check_engine(self) -> Recipe:
        if self.engine == "tensorrt" and "int8-block" in self.forms:
            raise ValueError("int8-channel for TensorRT: it expands int8 blocks to float on every call")
        return self

    @property
    def forms(self) -> frozenset[str]:
        """Return every form that the recipe asks for."""
        return frozenset((self.decoder_linears, self.lm_head, self.vision_linears))

    @property
    def needs_calibration(self) -> bool:
        """Tell whether an export by this recipe needs a calibration."""
        return "int8-static" in self.forms or self.sensitive is not None

    def form_of(self, graph: str, linear: LinearUse) -> LinearForm:
        """Return the form that the recipe asks for a linear layer of the graph `vision` or of one of the decoder."""
        if linear.weight == _PATCHES or self.is_kept(linear.weight):
            return "float"
        if graph == "vision":
            return self.vision_linears
        return self.lm_head if linear.weight == _HEAD else self.decoder_linears

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
