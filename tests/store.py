"""The slow path of `export/stream`: writes a graph and its numbers, one whole tensor in memory at a time.

Knows ONNX's external data form: `X.onnx` beside `X.onnx.data`. Knows nothing of where tensors come from.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir

from judo_edge.errors import CheckpointError, OutputError
from judo_edge.export.graphs.spec import Array, GraphSpec, Transform, WeightUse
from judo_edge.export.stream import ALIGNMENT, SMALL_ALIGNMENT

LazyTensor = Callable[[], Array]
"""Makes the values of one initializer, in its shape; called once, when its turn comes."""

TensorSource = Callable[[str], Array]
"""Returns a checkpoint tensor by its hub name."""


def onnx_with_weights(
    graph: GraphSpec, source: TensorSource, path: Path, extra: Mapping[str, LazyTensor] | None = None
) -> tuple[Path, Path]:
    """Write `graph` with weights from `source`; return the two files, `path` and `path` + ".data".

    `extra` gives the values of initializers that a quantizer added (or replaces those of the checkpoint). Existing
    files are replaced once both are complete. Raises OutputError when the disk refuses, CheckpointError for a tensor
    of another shape; then nothing that existed is changed.
    """
    return save_model(graph.model, path, {**lazy_tensors(graph, source), **(extra or {})})


def values_from_tensor(use: WeightUse, tensor: Array) -> Array:
    """Return the values of an initializer in its own type from its checkpoint tensor (a view where that is enough).

    Raises CheckpointError when the tensor has not the shape that the config implies.
    """
    flat = tensor.reshape(tensor.shape[0], -1) if use.transform is Transform.PATCH else tensor
    if flat.shape != use.tensor_shape:
        raise CheckpointError(
            f"tensor {use.tensor} of shape {tuple(tensor.shape)}",
            f"{use.tensor_shape}",
            "use the config.json that belongs to these weights",
        )
    part = flat if use.rows is None else flat[use.rows.start : use.rows.stop]
    values = np.asarray(part, dtype=use.dtype)
    return values if use.transform is Transform.AS_IS else values.T


def lazy_tensors(graph: GraphSpec, source: TensorSource) -> dict[str, LazyTensor]:
    """Return a maker of the values for each checkpoint weight that the graph still has as an initializer."""
    return {name: _lazy(use, source) for name, use in graph.weights.items() if name in graph.model.graph.initializers}


def save_model(model: ir.Model, path: Path, tensors: Mapping[str, LazyTensor]) -> tuple[Path, Path]:
    """Write `model` with the initializers that have no data filled from `tensors`; `model` itself stays without data.

    Raises OutputError when the disk refuses, ValueError when an initializer has no values or values of another size.
    """
    data = path.with_name(path.name + ".data")
    parts = [file.with_name(f"{file.name}.partial-{os.getpid()}") for file in (path, data)]
    empty = [value for value in model.graph.initializers.values() if value.const_value is None]
    try:
        with parts[1].open("wb") as file, _restored(empty):
            for value in empty:
                _write_tensor(file, value, tensors, data)
            parts[0].write_bytes(ir.serde.serialize_model(model).SerializeToString())
        parts[1].replace(data)
        parts[0].replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: {error}", "room and permission to write", "free space or choose a folder"
        ) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return path, data


def _lazy(use: WeightUse, source: TensorSource) -> LazyTensor:
    return lambda: values_from_tensor(use, source(use.tensor))


def _write_tensor(file: BinaryIO, value: ir.Value, tensors: Mapping[str, LazyTensor], data: Path) -> None:
    """Append one tensor and let `value` point at it."""
    name = str(value.name)
    if name not in tensors or value.dtype is None or value.shape is None:
        raise ValueError(f"initializer {name} has no values, type or shape")
    wanted = math.ceil(math.prod(value.shape.numpy()) * value.dtype.bitwidth / 8)
    array = np.ascontiguousarray(tensors[name]())
    if array.nbytes != wanted:
        raise ValueError(f"initializer {name} got {array.nbytes} bytes, wanted {wanted}")
    offset = _aligned(file, wanted)
    file.write(array.reshape(-1).view(np.uint8).data)
    value.const_value = ir.ExternalTensor(
        data.name, offset, wanted, value.dtype, shape=value.shape, name=name, base_dir=data.parent
    )


def _aligned(file: BinaryIO, num_bytes: int) -> int:
    alignment = ALIGNMENT if num_bytes >= ALIGNMENT else SMALL_ALIGNMENT
    file.write(b"\0" * (-file.tell() % alignment))
    return file.tell()


@contextmanager
def _restored(values: list[ir.Value]) -> Iterator[None]:
    """Take the data out of the initializers again, so that a graph can be written many times."""
    try:
        yield
    finally:
        for value in values:
            value.const_value = None
