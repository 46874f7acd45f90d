"""An ONNX file as the builder reads it: sizes that a plan fixes are fixed in the graph.

TensorRT wants the capacity of a cache as a number in the graph, not as a profile of one size. Works on protobuf's wire
format, so that a device needs no ONNX package; weights stay in their own file. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from judo_edge.errors import BundleError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH = 7
_GRAPH_VALUES = (11, 12, 13)
"""Inputs, outputs and values in between."""
_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM = 2, 1, 2, 1
_DIM_VALUE, _DIM_PARAM = 1, 2

Edit = Callable[[bytes], bytes]


class Field(NamedTuple):
    """One field of a message as it stands in the file."""

    number: int
    wire: int
    payload: bytes
    """The value alone; of a length-delimited field its content."""


def model_with_sizes(data: bytes, sizes: Mapping[str, int]) -> bytes:
    """Return a serialized model in which every axis named in `sizes` has that size; names not in it stay dynamic.

    Raises BundleError when the bytes are no protobuf message.
    """

    def fixed(dimension: bytes) -> bytes:
        for field in _fields(dimension):
            if field.number == _DIM_PARAM and (name := field.payload.decode("utf-8", "replace")) in sizes:
                return _encoded(Field(_DIM_VALUE, _VARINT, _varint(sizes[name])))
        return dimension

    value = _inside((_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_DIM), fixed)
    return _edited(data, {_MODEL_GRAPH: lambda graph: _edited(graph, dict.fromkeys(_GRAPH_VALUES, value))})


def _inside(path: tuple[int, ...], edit: Edit) -> Edit:
    """Return an edit that descends along field numbers and applies `edit` to what lies there."""
    if not path:
        return edit
    inner = _inside(path[1:], edit)
    return lambda message: _edited(message, {path[0]: inner})


def _edited(message: bytes, edits: Mapping[int, Edit]) -> bytes:
    """Apply an edit to each length-delimited field that has one; everything else stays byte for byte."""
    return b"".join(
        _encoded(field._replace(payload=edits[field.number](field.payload)))
        if field.wire == _BYTES and field.number in edits
        else _encoded(field)
        for field in _fields(message)
    )


def _fields(message: bytes) -> Iterator[Field]:
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        end = start = position
        if tag & 7 == _VARINT:
            end = _read_varint(message, position)[1]
        elif tag & 7 == _BYTES:
            size, start = _read_varint(message, position)
            end = start + size
        elif tag & 7 in (_FIXED64, _FIXED32):
            end = start + (8 if tag & 7 == _FIXED64 else 4)
        if end == position or end > len(message):
            raise BundleError("a graph of the bundle is not ONNX", action="export the bundle again")
        yield Field(tag >> 3, tag & 7, message[start:end])
        position = end


def _encoded(field: Field) -> bytes:
    tag = _varint(field.number << 3 | field.wire)
    return tag + (_varint(len(field.payload)) if field.wire == _BYTES else b"") + field.payload


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position, value, shift = position + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, position
    raise BundleError("a graph of the bundle is cut short", action="export the bundle again")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
