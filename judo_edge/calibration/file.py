"""The file calibration.json: frozen models of what was measured, on which photos, with which settings.

Arrays lie in calibration.safetensors; their names are made here. Nothing in this file touches the disk.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from judo_edge.bundle import Source
from judo_edge.config import Frozen
from judo_edge.files import sha256_of_bytes

FORMAT_VERSION: Literal[1] = 1
JSON_NAME, TENSORS_NAME, PLOT_NAME = "calibration.json", "calibration.safetensors", "sensitivity.svg"
PREFIX_TENSOR = "prefix"
"""Name of the (P, L, 2, 1, Hkv, hd) keys and values in the safetensors file."""

ErrorForm = Literal["int8-channel", "int8-static", "int4-block"]
ERROR_FORMS: tuple[ErrorForm, ...] = ("int8-channel", "int8-static", "int4-block")
ArrayKind = Literal["absmax_visual", "absmax_text", "smooth", "awq", "gram"]

TokenKind = Literal["system", "query", "reference", "question", "mask", "prose"]
TOKEN_KINDS: tuple[TokenKind, ...] = ("system", "query", "reference", "question", "mask", "prose")
"""What a position holds: the fixed head of the prompt, the rows of both photos, the rest of the prompt, `<seg>` with
what is in it, and the reason with the answer."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0)]
Scale = Annotated[float, Field(gt=0)]


class SampleEntry(Frozen):
    """One pair that was used."""

    image: str
    """File name of the photo, without its folder."""
    sha256: Sha256
    """Of its decoded pixels and their shape."""
    reference_sha256: Sha256
    label: Literal["good", "defect"]
    group: str
    answer: str
    """Letter of the reply that the sample teaches."""
    cells: Annotated[int, Field(ge=0)]
    """Defective cells of its reply."""
    tokens: Positive
    """Length of prompt and reply."""
    held_out: bool
    """Whether errors are measured on it; the others choose the scales."""


class Settings(Frozen):
    """What decides the result besides checkpoint and photos."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the choice of tokens."""
    search_tokens: Positive = 512
    """Rows of each input that scales are chosen on, drawn evenly over the kinds of token."""
    error_tokens: Positive = 256
    """Rows of each input that errors are measured on, from held-out samples."""
    sensitivity_samples: Positive = 2
    """Held-out samples that whole layers are run on in each form."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the samples that take no part in the choice of scales."""
    smooth_alphas: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    """Migration strengths that are tried beside none at all."""
    awq_powers: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.125, 0.25, 0.375, 0.5, 0.75)
    """Exponents that are tried beside none at all."""
    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share by which a scale must lower the error; ones stay in place of a scale that gains less."""
    clip_rule: Literal["absmax"] = "absmax"
    """Static ranges cover every value seen after the prefix, of both kinds of token and all samples."""
    gram: bool = False
    """Whether second moments are stored."""
    gram_max_features: Positive = 8192


class Provenance(Frozen):
    """Where the numbers come from."""

    source: Source
    profile: str
    profile_sha256: Sha256
    """Of the profile file."""
    split: str
    samples: tuple[SampleEntry, ...]
    left_out: dict[str, int]
    """Items of the split that are not samples, by reason."""
    checked_against: int
    """Acceptance photos, by pixels, that none of the samples is among."""
    tokens: dict[TokenKind, int]
    """Tokens of all samples; `system` is counted once, for the prefix is computed once."""
    photos: Positive
    """Different photos that the vision tower read."""
    settings: Settings
    tools: dict[str, str]


class LinearEntry(Frozen):
    """One linear layer; linears of one group read the same input and share their arrays."""

    weight: str
    """Hub name of the matrix."""
    group: str
    """Hub name of the first matrix of the group."""
    in_features: Positive
    out_features: Positive
    input_scale: Scale
    """Static scale of int8 inputs after smoothing."""
    alpha: float | None
    """SmoothQuant's migration strength; None where smoothing did not help and `smooth` is ones."""
    awq_power: float | None
    """AWQ's exponent; None where no scale helped and `awq` is ones."""
    errors: dict[ErrorForm, Share]
    """||y_q - y|| / ||y|| over held-out tokens, y without bias."""
    errors_visual: dict[ErrorForm, Share]
    errors_text: dict[ErrorForm, Share]
    """As `errors`, over one kind of token; empty where none was seen."""
    amax: dict[TokenKind, Share]
    """Largest magnitude of the input by kind of token."""
    unseen_range: Share
    """Range that held-out samples need, after smoothing, by that of the others; above 1 means that static ranges from
    the others alone would have clipped."""


class LayerEntry(Frozen):
    """One block with all its linears in one form."""

    name: str
    """Hub name of the block, such as `model.layers.3`."""
    output_errors: dict[ErrorForm, Share]
    """||y_q - y|| / ||y|| of the block's output over the tokens of a few held-out samples."""
    update_errors: dict[ErrorForm, Share]
    """The same difference by what the block adds to its input; empty where input and output differ in shape."""


class CalibrationFile(Frozen):
    """Everything but the arrays."""

    format_version: Literal[1] = FORMAT_VERSION
    digest: str = ""
    """SHA-256 of this file's content without the digest itself."""
    files: dict[str, Sha256]
    """Hashes of the other files of the folder."""
    provenance: Provenance
    prefix_ids: tuple[int, ...]
    """Tokens of the fixed head of every prompt, up to the first photo."""
    linears: tuple[LinearEntry, ...]
    layers: tuple[LayerEntry, ...]

    def content_digest(self) -> str:
        """Return what `digest` has to be."""
        return sha256_of_bytes(self.model_dump_json(exclude={"digest"}).encode())

    def sealed(self) -> CalibrationFile:
        """Return the same with its digest filled in."""
        return self.model_copy(update={"digest": self.content_digest()})


def array_name(group: str, kind: ArrayKind) -> str:
    """Return the name of a group's array in the safetensors file."""
    return f"{group}/{kind}"
