"""The cell probe of an export: which file it is, whether it fits the model, and how its tensors join the checkpoint's.

A probe is a safetensors file with `weight` (values, hidden) and `bias` (values,); its metadata tells the tap and what
it was fitted on. Knows no graphs' nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from judo_edge.bundle import ProbeEntry
from judo_edge.errors import CheckpointError, ConfigError
from judo_edge.export.adapter import Adapter
from judo_edge.export.checkpoint import Checkpoint, hash_of_file
from judo_edge.export.graphs import ProbeForm
from judo_edge.export.graphs.spec import PROBE_BIAS, PROBE_WEIGHT
from judo_edge.export.tensorfile import StoredTensor, metadata_from_file, tensors_from_file

PROBE_FILE = "cell_probe.safetensors"
_ACTION = "fit one with judo-edge fit-probe, or pass --no-probe"
_FORM = {"normalisation": "rms", "image": "second"}
"""What the graph computes; a probe of another kind is refused."""


@dataclass(frozen=True)
class CellProbe:
    """An opened probe."""

    path: Path
    digest: str
    """SHA-256 of the file."""
    tap: int
    weight: StoredTensor
    bias: StoredTensor
    metadata: Mapping[str, str]

    @property
    def form(self) -> ProbeForm:
        """Return what the graphs need to know."""
        return ProbeForm(self.tap, self.weight.shape[0])

    @property
    def entry(self) -> ProbeEntry:
        """Describe it for the manifest."""
        return ProbeEntry(tap=self.tap, values=self.form.values, digest=self.digest, source=self.path.name)

    def joined(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return the checkpoint with the probe's tensors beside its own; its digest stays."""
        return replace(checkpoint, beside={PROBE_WEIGHT: self.weight, PROBE_BIAS: self.bias})


def chosen_probe(folder: Path, given: Path | None, is_wanted: bool) -> Path | None:
    """Return the probe file of an export: the one given, else the checkpoint's own if it has one and it is wanted.

    Raises ConfigError when one is given and none is wanted.
    """
    if given and not is_wanted:
        raise ConfigError(f"--probe {given} with --no-probe", "one of them", "drop one")
    own = folder / PROBE_FILE
    return given or (own if is_wanted and own.is_file() else None)


def open_probe(path: Path, config: Any) -> CellProbe:
    """Open a probe for a model whose text config is `config`; CheckpointError says what does not fit."""
    tensors, metadata = tensors_from_file(path), metadata_from_file(path)
    if set(tensors) != {"weight", "bias"}:
        raise CheckpointError(f"{path} with {', '.join(tensors) or 'no tensor'}", "weight and bias", _ACTION)
    for name, wanted in _FORM.items():
        if metadata.get(name) != wanted:
            raise CheckpointError(f"{path}: {name} {metadata.get(name)!r}", f"{wanted!r} in its metadata", _ACTION)
    _check_shapes(path, tensors["weight"], tensors["bias"], int(config.hidden_size))
    tap = _tap(path, metadata.get("tap", ""), int(config.num_hidden_layers))
    return CellProbe(path, _digest(path), tap, tensors["weight"], tensors["bias"], metadata)


def check_source(probe: CellProbe, checkpoint: Checkpoint, adapters: Sequence[Adapter]) -> None:
    """Raise CheckpointError when the probe says that it was fitted on other weights; one that says nothing passes."""
    fitted = probe.metadata.get("checkpoint_sha256")
    if fitted is None:
        return
    ours = (checkpoint.digest(), sorted(adapter.digest for adapter in adapters))
    if (fitted, sorted(probe.metadata.get("adapters_sha256", "").split())) != ours:
        found = f"{probe.path} was fitted on other weights ({probe.metadata.get('source', fitted[:12])})"
        raise CheckpointError(found, "a probe of this checkpoint with these adapters", _ACTION)


def _check_shapes(path: Path, weight: StoredTensor, bias: StoredTensor, width: int) -> None:
    for tensor in (weight, bias):
        tensor.check_readable()
    if len(weight.shape) != 2 or weight.shape[1] != width:
        wanted = f"[values, {width}], the model's hidden size"
        raise CheckpointError(f"{path}: weight has shape {list(weight.shape)}", wanted, _ACTION)
    values = weight.shape[0]
    if bias.shape != (values,):
        raise CheckpointError(f"{path}: bias has shape {list(bias.shape)}", f"[{values}] as weight has rows", _ACTION)
    if values < 1 or math.isqrt(values) ** 2 != values:
        wanted = "a square number, so that sub-cells fill a token"
        raise CheckpointError(f"{path}: {values} values for each token", wanted, _ACTION)


def _tap(path: Path, text: str, layers: int) -> int:
    tap = int(text) if text.isdigit() else 0
    if not 1 <= tap <= layers:
        raise CheckpointError(f"{path}: tap {text!r}", f"1 to {layers}, the layers of the model", _ACTION)
    return tap


def _digest(path: Path) -> str:
    try:
        return hash_of_file(path)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}", "a readable file") from error
