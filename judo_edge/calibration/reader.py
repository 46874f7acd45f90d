"""Opens a calibration folder: hashes are checked, arrays are read when asked for.

Knows the files; knows no torch and makes no decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from judo_edge.calibration.file import (
    JSON_NAME,
    PREFIX_TENSOR,
    TENSORS_NAME,
    ArrayKind,
    CalibrationFile,
    ErrorForm,
    LinearEntry,
    array_name,
)
from judo_edge.core import Floats, Ints
from judo_edge.errors import InputError
from judo_edge.files import sha256_of_file

_AGAIN = "run judo-edge calibrate again"


@dataclass(frozen=True)
class LinearCalibration:
    """What is known of one linear layer's input and of its stored forms; arrays are (in,) float32."""

    entry: LinearEntry
    absmax_visual: Floats
    """Largest magnitude of each input channel over visual tokens; zeros where none was seen."""
    absmax_text: Floats
    """The same over text tokens after the prefix."""
    smooth: Floats
    """SmoothQuant vector: inputs are divided by it, columns of the weight multiplied."""
    awq: Floats
    """AWQ vector for int4, applied the same way; ones where no scale helped."""

    @property
    def input_scale(self) -> float:
        """Return the static int8 scale of the smoothed input."""
        return self.entry.input_scale

    @property
    def errors(self) -> Mapping[ErrorForm, float]:
        """Return the relative output error of each form."""
        return self.entry.errors


@dataclass(frozen=True)
class Prefix:
    """The fixed head of every prompt, computed in float32."""

    ids: Ints
    """(P,) token ids."""
    keys_values: Floats
    """(P, L, 2, 1, Hkv, hd) float32, keys with their rotary position applied."""


@dataclass(frozen=True)
class Calibration:
    """An opened calibration."""

    folder: Path
    file: CalibrationFile
    _by_weight: Mapping[str, LinearEntry] = field(repr=False)

    @property
    def digest(self) -> str:
        """Return the SHA-256 that names this calibration."""
        return self.file.digest

    @property
    def weights(self) -> tuple[str, ...]:
        """Return the hub names of the calibrated matrices, in the order of the model."""
        return tuple(self._by_weight)

    @property
    def prefix(self) -> Prefix | None:
        """Read the keys and values of the prompt's head; None when the prompt has none."""
        import numpy as np

        if not self.file.prefix_ids:
            return None
        return Prefix(np.array(self.file.prefix_ids, np.int64), self._array(PREFIX_TENSOR))

    def linear(self, weight: str) -> LinearCalibration | None:
        """Read what is known of a matrix by hub name; None when it was not calibrated."""
        entry = self._by_weight.get(weight)
        if entry is None:
            return None
        kinds: tuple[ArrayKind, ...] = ("absmax_visual", "absmax_text", "smooth", "awq")
        return LinearCalibration(entry, *(self._array(array_name(entry.group, kind)) for kind in kinds))

    def gram(self, weight: str) -> Floats | None:
        """Read the second moments (in, in) float32 of a matrix's input, x^T x / tokens; None when not stored."""
        entry = self._by_weight.get(weight)
        name = array_name(entry.group, "gram") if entry else ""
        with self._tensors() as tensors:
            return _owned(tensors, name) if name in tensors.keys() else None  # noqa: SIM118

    def check_source(self, checkpoint_digest: str, adapter_digests: tuple[str, ...] = ()) -> None:
        """Raise InputError unless it was made from this checkpoint with these adapters, in any order."""
        source = self.file.provenance.source
        made_from = (source.digest, sorted(adapter.digest for adapter in source.adapters))
        if made_from != (checkpoint_digest, sorted(adapter_digests)):
            names = " + ".join([source.checkpoint, *(adapter.name for adapter in source.adapters)])
            found = f"{self.folder}: made from other weights ({names})"
            raise InputError(found, "a calibration of this checkpoint with these adapters", _AGAIN)

    def _array(self, name: str) -> Floats:
        with self._tensors() as tensors:
            return _owned(tensors, name)

    def _tensors(self) -> Any:
        from safetensors import safe_open

        return safe_open(self.folder / TENSORS_NAME, framework="numpy")


def open_calibration(folder: str | Path) -> Calibration:
    """Open a folder written by `judo-edge calibrate`; InputError when a file is missing, of another form or changed."""
    path = Path(folder)
    file = _checked_file(path / JSON_NAME)
    for name, wanted in file.files.items():
        if not (path / name).is_file():
            raise InputError(f"{path / name} is missing", "a complete calibration folder", _AGAIN)
        if sha256_of_file(path / name) != wanted:
            raise InputError(f"{path / name} was changed after it was written", f"SHA-256 {wanted}", _AGAIN)
    return Calibration(path, file, {entry.weight: entry for entry in file.linears})


def _checked_file(path: Path) -> CalibrationFile:
    try:
        file = CalibrationFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "a folder written by judo-edge calibrate", _AGAIN) from error
    except ValidationError as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}", "a calibration file", _AGAIN) from error
    if file.content_digest() != file.digest or TENSORS_NAME not in file.files:
        raise InputError(f"{path} was changed after it was written", "its own digest", _AGAIN)
    return file


def _owned(tensors: Any, name: str) -> Floats:
    values: Floats = tensors.get_tensor(name)
    return values
