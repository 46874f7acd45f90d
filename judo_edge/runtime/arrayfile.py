"""One file of named arrays: what they are, their bytes, and a SHA-256 over both. Knows no folder and no policy.

A file is: magic, SHA-256 of all that follows, length of the header (8 bytes, little endian), header (JSON), and each
array at a multiple of 64 bytes behind it. The digest finds what a power cut, a disk or an editor did to the file; it is
no seal: who may write there can also write a right digest.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Mapping
from math import prod
from typing import Annotated, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from judo_edge.config import Frozen

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
NotNegative = Annotated[int, Field(ge=0)]

_MAGIC = b"JUDOARR1"
_DIGEST = hashlib.sha256().digest_size
_LENGTH = 8
_START = len(_MAGIC) + _DIGEST + _LENGTH
_ALIGNMENT = 64
_KINDS = "fiu"
"""Kinds of numpy types that are stored: plain numbers, never objects."""


class DamagedError(ValueError):
    """A file does not hold the arrays that it should."""


class ArraySpec(Frozen):
    """One array of a file."""

    dtype: Annotated[str, Field(pattern=r"^[<>|](f[248]|[iu][1248])$")]
    """Numpy's short name with its byte order, such as `<f4`."""
    shape: tuple[NotNegative, ...]
    offset: NotNegative
    """Bytes from the end of the header."""


class ArrayHeader(Frozen):
    """What a file holds, and for which key."""

    key: str
    arrays: dict[str, ArraySpec]


def write_arrays(stream: BinaryIO, key: str, arrays: Arrays) -> None:
    """Write a whole file to a stream; ValueError for an array that does not hold plain numbers. Raises OSError."""
    parts = list(_parts(key, arrays))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    stream.write(_MAGIC + digest.digest())
    for part in parts:
        stream.write(part)


def arrays_from_map(mapped: mmap.mmap, key: str, is_checked: bool = False) -> dict[str, Array]:
    """Return the arrays of a mapped file as read-only views of it.

    `is_checked` says that the digest of these very bytes was found right before. Raises DamagedError when the file is
    cut short, changed, not one of these or made for another key.
    """
    raw = memoryview(mapped)
    if len(raw) < _START or raw[: len(_MAGIC)] != _MAGIC:
        raise DamagedError("not a file of arrays")
    if not is_checked and hashlib.sha256(raw[len(_MAGIC) + _DIGEST :]).digest() != raw[len(_MAGIC) :][:_DIGEST]:
        raise DamagedError("cut short or changed")
    length = int.from_bytes(raw[_START - _LENGTH : _START], "little")
    header = _header_from_bytes(bytes(raw[_START : _START + length]), key)
    return {name: _view(mapped, spec, _START + length) for name, spec in header.arrays.items()}


def _parts(key: str, arrays: Arrays) -> Iterator[bytes | memoryview]:
    """Yield the bytes behind the digest."""
    yield _header_bytes(key, arrays)
    for array in arrays.values():
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        yield bytes(_padded(array.nbytes) - array.nbytes)


def _header_bytes(key: str, arrays: Arrays) -> bytes:
    """Return length and header, padded with spaces so that the arrays begin at a multiple of 64 bytes."""
    specs: dict[str, ArraySpec] = {}
    offset = 0
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise ValueError(f"{name} holds {array.dtype}, not plain numbers")
        specs[name] = ArraySpec(dtype=array.dtype.str, shape=array.shape, offset=offset)
        offset += _padded(array.nbytes)
    text = ArrayHeader(key=key, arrays=specs).model_dump_json().encode()
    text = text.ljust(_padded(_START + len(text)) - _START)
    return len(text).to_bytes(_LENGTH, "little") + text


def _header_from_bytes(text: bytes, key: str) -> ArrayHeader:
    try:
        header = ArrayHeader.model_validate_json(text)
    except ValidationError as error:
        raise DamagedError("made by another version") from error
    if header.key != key:
        raise DamagedError(f"made for the key {header.key}")
    return header


def _view(mapped: mmap.mmap, spec: ArraySpec, start: int) -> Array:
    """Return one array; DamagedError when it does not lie inside the file."""
    dtype = np.dtype(spec.dtype)
    count = prod(spec.shape)
    begin = start + spec.offset
    if begin + count * dtype.itemsize > len(mapped):
        raise DamagedError("an array that lies outside its file")
    if not count:
        return np.empty(spec.shape, dtype)
    return np.frombuffer(mapped, dtype, count, begin).reshape(spec.shape)


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
