"""What a traced graph offers: the model without numbers, and where each number comes from.

Knows onnx_ir and numpy. A quantizer may rewrite `GraphSpec.model`; `store` writes it with tensors made one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from judo_edge.errors import CheckpointError

Array = npt.NDArray[np.generic]


class Transform(str, Enum):
    """How a checkpoint tensor becomes an initializer."""

    AS_IS = "as-is"
    TRANSPOSE = "transpose"
    """(out, in) becomes (in, out)."""
    PATCH = "patch"
    """A convolution kernel (out, 3, time, y, x) becomes (3 * time * y * x, out)."""


@dataclass(frozen=True)
class WeightUse:
    """One initializer without data."""

    name: str
    """Initializer in the graph; the hub name of the parameter."""
    tensor: str
    """Hub name of the checkpoint tensor; differs from `name` only for a tied head."""
    transform: Transform
    shape: tuple[int, ...]
    """Shape in the graph."""


@dataclass(frozen=True)
class LinearUse:
    """One product MatMul(x, weight) with weight (in_features, out_features), and an Add of the bias if there is one."""

    node: str
    """Name of the MatMul node; the module's name in hub style."""
    weight: str
    """Initializer of the matrix; its `WeightUse` says where it comes from."""
    bias: str | None
    """Initializer (out_features,) of the Add that follows, None without bias."""
    tensor: str
    """Hub name of the checkpoint tensor, (out_features, in_features) or a convolution kernel there."""
    in_features: int
    out_features: int


@dataclass(frozen=True)
class TensorSpec:
    """Name, ONNX type name (FLOAT, INT64) and shape of an input or output; named sizes are dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphSpec:
    """A traced graph: tables inside, large weights as initializers without data."""

    name: str
    """vision or decoder."""
    model: ir.Model
    weights: Mapping[str, WeightUse]
    """By initializer name, in the order of the graph."""
    linears: tuple[LinearUse, ...]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Return the inputs in order."""
        return tuple(_tensor_spec(value) for value in self.model.graph.inputs)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Return the outputs in order."""
        return tuple(_tensor_spec(value) for value in self.model.graph.outputs)


@dataclass(frozen=True)
class ExportedGraphs:
    """Both graphs of a model, and the embedding table that is in neither."""

    vision: GraphSpec
    decoder: GraphSpec
    embedding: WeightUse
    """The token table (vocabulary, hidden), kept beside the graphs."""


def values_from_tensor(use: WeightUse, tensor: Array) -> npt.NDArray[np.float32]:
    """Return the float32 values of an initializer from its checkpoint tensor (a view where that is enough).

    Raises CheckpointError when the tensor has not the shape that the config implies.
    """
    wanted = use.shape if use.transform is Transform.AS_IS else use.shape[::-1]
    flat = tensor.reshape(tensor.shape[0], -1) if use.transform is Transform.PATCH else tensor
    if flat.shape != wanted:
        raise CheckpointError(
            f"tensor {use.tensor} of shape {tuple(tensor.shape)}",
            f"{wanted}",
            "use the config.json that belongs to these weights",
        )
    values = np.asarray(flat, dtype=np.float32)
    return values if use.transform is Transform.AS_IS else values.T


def _tensor_spec(value: ir.Value) -> TensorSpec:
    shape = value.shape
    if shape is None or value.dtype is None:
        raise ValueError(f"graph value {value.name} has no type or shape")
    sizes = tuple(size if isinstance(size, int) else str(size.value) for size in shape)
    return TensorSpec(str(value.name), value.dtype.name, sizes)
