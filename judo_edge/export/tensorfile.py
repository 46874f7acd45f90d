"""One safetensors file, read row by row: header checked first, values never mapped or kept.

A file is 8 bytes of header length (little endian), a JSON header, then the bytes of the tensors. Knows nothing of
models. bfloat16 has no numpy type: its 16 bits are the upper half of a float32.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats
from judo_edge.errors import CheckpointError

_MAX_HEADER = 100_000_000
_READABLE: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_OTHER_SIZES = {"F64": 8, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_SIZES = {**{name: dtype.itemsize for name, dtype in _READABLE.items()}, **_OTHER_SIZES, "F8_E4M3": 1, "F8_E5M2": 1}
_COPY_AGAIN = "copy the file again and compare its checksum"


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies."""

    name: str
    """Name in the file."""
    path: Path
    dtype: str
    """Name of the type in the header, e.g. BF16."""
    shape: tuple[int, ...]
    offset: int
    """First byte in the file."""

    @property
    def num_rows(self) -> int:
        """Return the size of the first axis, 1 for a scalar."""
        return self.shape[0] if self.shape else 1

    @property
    def num_bytes(self) -> int:
        """Return the stored size."""
        return prod(self.shape) * _SIZES[self.dtype]

    def check_readable(self) -> None:
        """Raise CheckpointError unless the tensor is float32, float16 or bfloat16."""
        if self.dtype not in _READABLE:
            action = "export from the original float checkpoint, not from a quantized one"
            raise CheckpointError(f"{self.path}: {self.name} is stored as {self.dtype}", "F32, F16 or BF16", action)

    def rows(self, start: int, stop: int) -> Floats:
        """Read rows start..stop of the first axis as float32, (stop - start, ...); raises CheckpointError."""
        self.check_readable()
        width, stored = prod(self.shape[1:]), _READABLE[self.dtype]
        count = (stop - start) * width
        try:
            values = np.fromfile(self.path, stored, count, offset=self.offset + start * width * stored.itemsize)
        except OSError as error:
            raise CheckpointError(f"{self.path}: {error.strerror or error}", action=_COPY_AGAIN) from error
        if values.size != count:
            raise CheckpointError(f"{self.path} ends inside {self.name}", action=_COPY_AGAIN)
        return _float32_from_stored(values, self.dtype).reshape(stop - start, *self.shape[1:])


def tensors_from_file(path: Path) -> dict[str, StoredTensor]:
    """Read the header of a safetensors file: name -> tensor, in the order of the header.

    Raises CheckpointError that names the file when it is cut off or corrupt.
    """
    header, start = _header_of(path)
    header.pop("__metadata__", None)
    tensors = {name: _tensor_from_entry(path, name, entry, start) for name, entry in header.items()}
    end = max((item.offset + item.num_bytes for item in tensors.values()), default=start)
    if (size := path.stat().st_size) != end:
        problem = "is cut off" if size < end else "has bytes after its last tensor"
        raise CheckpointError(f"{path} {problem}: {size} bytes", f"{end} bytes", _COPY_AGAIN)
    return tensors


def metadata_from_file(path: Path) -> dict[str, str]:
    """Return the texts that a safetensors file carries besides its tensors; raises CheckpointError."""
    found = _header_of(path)[0].get("__metadata__", {})
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise CheckpointError(f"{path} has corrupt metadata", "texts by name", _COPY_AGAIN)
    return found


def _header_of(path: Path) -> tuple[dict[str, Any], int]:
    """Return the JSON header and the offset at which values start."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            raw = stream.read(length) if length <= _MAX_HEADER else b""
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}", "a readable safetensors file") from error
    if not raw or len(raw) != length:
        raise CheckpointError(f"{path} is cut off or no safetensors file", "a safetensors file", _COPY_AGAIN)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a corrupt header", "a safetensors file", _COPY_AGAIN) from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a corrupt header", "a JSON object", _COPY_AGAIN)
    return header, 8 + length


def _tensor_from_entry(path: Path, name: str, entry: Any, start: int) -> StoredTensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        sound = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: corrupt header entry {name}", action=_COPY_AGAIN) from error
    if not sound or not isinstance(dtype, str):
        raise CheckpointError(f"{path}: corrupt header entry {name}", action=_COPY_AGAIN)
    if dtype not in _SIZES:
        raise CheckpointError(f"{path}: {name} has the unknown type {dtype}", action=_COPY_AGAIN)
    tensor = StoredTensor(name, path, dtype, shape, start + begin)
    if end - begin != tensor.num_bytes:
        raise CheckpointError(f"{path}: {name} has {end - begin} bytes", f"{tensor.num_bytes} bytes", _COPY_AGAIN)
    return tensor


def _float32_from_stored(values: npt.NDArray[Any], dtype: str) -> Floats:
    if dtype == "BF16":
        wide = values.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return values.astype(np.float32, copy=False)
