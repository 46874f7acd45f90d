"""The manifest of a bundle: frozen models of everything that export decided.

The runtime reads shapes, ids and file names from here and never guesses. Nothing in this file touches the disk.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from judo_edge.config import Frozen

FORMAT_VERSION: Literal[1] = 1
MANIFEST_NAME = "manifest.json"
_FORBIDDEN = set('\\:*?"<>|\0')

FloatName = Literal["float32", "float16"]


def _checked_name(name: str) -> str:
    """Refuse a file name that could leave the bundle folder or mean another file on another system."""
    path = PurePosixPath(name)
    odd = path.is_absolute() or str(path) != name or ".." in path.parts or _FORBIDDEN & set(name)
    if odd or name in ("", ".", MANIFEST_NAME):
        raise ValueError(f"file name {name!r} is not a plain relative path inside the bundle")
    return name


FileName = Annotated[str, AfterValidator(_checked_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(gt=0)]


class FileEntry(Frozen):
    """Size and hash of one file."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class AdapterSource(Frozen):
    """One LoRA adapter that was merged."""

    name: str
    digest: Sha256
    tensors: int
    """Number of base tensors that it changed."""


class Source(Frozen):
    """What the bundle was made from."""

    checkpoint: str
    """Folder name of the checkpoint, without its path."""
    digest: Sha256
    """SHA-256 over the names and hashes of config.json and the safetensors files."""
    adapters: tuple[AdapterSource, ...] = ()
    """Sorted by digest, the order in which they were added; the order they were given in does not matter."""


class ModelFacts(Frozen):
    """Shapes and ids of the model, from its config.json and tokenizer."""

    architecture: str
    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive
    num_kv_heads: Positive
    head_dim: Positive
    intermediate_size: Positive
    vocab_size: Positive
    rope_theta: float
    mrope_section: tuple[int, int, int]
    image_pad_id: int
    vision_start_id: int
    vision_end_id: int
    eos_ids: Annotated[tuple[int, ...], Field(min_length=1)]
    """Any of them ends the reply."""
    vision_depth: Positive
    vision_hidden_size: Positive
    vision_window_size: Positive
    """Pixels."""
    patch_size: Positive
    """Pixels."""
    temporal_patch_size: Positive
    spatial_merge_size: Positive

    @property
    def kv_bytes_per_token(self) -> int:
        """Return the size of one token's key and value in float32."""
        return self.num_layers * 2 * self.num_kv_heads * self.head_dim * 4


class Preprocessing(Frozen):
    """How pixels become patches after the profile's resizes."""

    image_size: Positive
    """Side of the square image that the vision graph is built for, pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Mean and standard deviation per channel, RGB, of pixels scaled to 0..1."""


class TensorSpec(Frozen):
    """Type and shape of a graph input or output; a named axis is dynamic."""

    dtype: str
    shape: tuple[int | str, ...]


class GraphEntry(Frozen):
    """One ONNX graph with its inputs and outputs."""

    file: FileName
    data: FileName
    """External data of the graph, in the same folder."""
    opset: Positive
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class EmbeddingEntry(Frozen):
    """The token embedding table: raw, row-major."""

    file: FileName
    dtype: FloatName
    shape: tuple[Positive, Positive]
    """(vocabulary, hidden size)."""


class TensorDecision(Frozen):
    """What became of one tensor of the checkpoint."""

    form: str
    """`float32`, `float16`, `int8-channel`, `int8-static`, `int8-block<k>`, `int4-block<k>`, or `unused` for a tensor
    that no graph reads."""
    stored_in: str = ""
    """File of the bundle, or files with a comma between them for a tensor cut in parts; empty when unused."""
    dtype: str
    """Data type in the checkpoint."""
    adapters: tuple[str, ...] = ()
    """Adapters that changed it."""
    reason: str = ""
    """Why, where the recipe alone does not say it."""
    error: float | None = None
    """Calibrated relative error of the layer's output in this form, ||quantized - float|| / ||float||."""


class PrefixEntry(Frozen):
    """Keys and values of the tokens that every prompt begins with, computed in float: raw, row-major float32."""

    file: FileName
    ids: Annotated[tuple[int, ...], Field(min_length=1)]
    """The P tokens; the file has shape (P, layers, 2, 1, kv_heads, head_dim)."""


class ProbeEntry(Frozen):
    """The dense cell probe behind the decoder's output `cells`."""

    tap: Positive
    """Decoder layers before it."""
    values: Positive
    """Logits for each token: its sub-cells, row by row."""
    digest: Sha256
    """Of the file that it was read from."""
    source: str
    """Name of that file, without its folder."""


class Acceptance(Frozen):
    """What `judo-edge verify` found: whether the bundle still says what its reference says."""

    status: Literal["passed", "failed"]
    failed: tuple[str, ...] = ()
    """Names of the gates that failed; empty exactly when it passed."""
    report: FileName
    """File of the bundle with every figure."""
    subject: Sha256
    """What was verified: `Bundle.subject_digest` at that time."""
    against: str
    """Name of the reference bundle."""
    items: str
    """Name of the labelled set, its split and how many items were measured."""
    engine: str
    """Engine that ran the bundle."""
    created: str
    """UTC, ISO 8601."""

    @model_validator(mode="after")
    def _check_status(self) -> Acceptance:
        if (self.status == "passed") != (not self.failed):
            raise ValueError("failed gates exactly when the status is failed")
        return self


class Manifest(Frozen):
    """Everything that was decided when the bundle was made."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    created: str
    """UTC, ISO 8601."""
    tools: dict[str, str]
    """Versions of judo-edge and of the packages that made the graphs."""
    source: Source
    model: ModelFacts
    recipe: dict[str, JsonValue]
    """Full content of the recipe."""
    graphs: dict[str, GraphEntry]
    decoder: Annotated[tuple[str, ...], Field(min_length=1)] = ("decoder",)
    """Graphs of the decoder in running order; all of `graphs` except the vision graph."""
    dialect: Literal["legacy", "modern"] = "legacy"
    """Operators and cache of the decoder graphs: decomposed, past and present; or opset 24, caches updated in place."""
    dtype: FloatName = "float32"
    """Type of the graphs' floating inputs and outputs."""
    embedding: EmbeddingEntry
    tokenizer: FileName = "tokenizer.json"
    profile: FileName = "profile.toml"
    preprocessing: Preprocessing
    decisions: dict[str, TensorDecision]
    calibration: dict[str, JsonValue] | None = None
    """Provenance of the calibration that chose ranges and forms."""
    prefix: PrefixEntry | None = None
    probe: ProbeEntry | None = None
    """None when the graphs have no output `cells`."""
    acceptance: Acceptance | None = None
    """None until the bundle was verified."""
    files: dict[FileName, FileEntry] = Field(default_factory=dict)
    """Every file of the folder except the manifest itself; filled by the writer."""

    def unlisted(self) -> tuple[str, ...]:
        """Return the files that the manifest uses but does not list, which a reader refuses."""
        used = [self.tokenizer, self.profile, self.embedding.file]
        used += [name for graph in self.graphs.values() for name in (graph.file, graph.data)]
        used += [self.prefix.file] if self.prefix else []
        used += [self.acceptance.report] if self.acceptance else []
        return tuple(name for name in used if name not in self.files)
