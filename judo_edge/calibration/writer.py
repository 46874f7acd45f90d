"""Writes a calibration folder: arrays streamed into one safetensors file, then the JSON that holds their hash.

The same calibration gives the same bytes. Knows files; decides nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from judo_edge.calibration.file import JSON_NAME, CalibrationFile
from judo_edge.core import Floats
from judo_edge.files import check_folder, sha256_of_file

_ALIGNMENT = 64


class ArraySource(Protocol):
    """An array that is read when it is written, so that no two have to be in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its shape."""
        ...

    def load(self) -> Floats:
        """Return its values."""
        ...


def write_arrays(path: Path, arrays: Mapping[str, ArraySource], metadata: Mapping[str, str] | None = None) -> None:
    """Write float32 arrays as safetensors, one after the other in the order of their names. Raises OSError."""
    names, end = sorted(arrays), 0
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    for name in names:
        shape = arrays[name].shape
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            _write_array(file, name, arrays[name])
        file.flush()
        os.fsync(file.fileno())


def _write_array(file: BinaryIO, name: str, array: ArraySource) -> None:
    values = np.ascontiguousarray(array.load(), dtype=np.float32)
    if values.shape != array.shape or not np.isfinite(values).all():
        raise ValueError(f"array {name} of shape {values.shape}, wanted {array.shape} with finite values")
    file.write(values.astype("<f4", copy=False).tobytes() if values.nbytes < _ALIGNMENT else values.data)


def seal_folder(folder: Path, file: CalibrationFile, names: Iterable[str]) -> CalibrationFile:
    """Hash the files `names` of a folder, and write the JSON that refers to them. Raises OSError."""
    hashes = {name: sha256_of_file(folder / name) for name in sorted(names)}
    sealed = file.model_copy(update={"files": hashes}).sealed()
    (folder / JSON_NAME).write_text(sealed.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return sealed


def check_target(out: Path, force: bool) -> None:
    """Raise OutputError unless `out` may be written: absent, or with `force` a calibration or an empty folder."""
    check_folder(out, force, JSON_NAME, "a calibration")
