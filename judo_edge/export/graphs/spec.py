"""What a traced graph offers: the model without numbers, and where each number comes from.

Knows onnx_ir and numpy. A quantizer may rewrite `GraphSpec.model`; `store` writes it with tensors made one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[np.generic]
Dialect = Literal["legacy", "modern"]
FloatType = Literal["float32", "float16"]


PROBE_WEIGHT, PROBE_BIAS = "cell_probe.weight", "cell_probe.bias"
"""Tensors of the cell probe: (values, hidden) and (values,), in the checkpoint's sense of (out, in)."""


@dataclass(frozen=True)
class ProbeForm:
    """The dense cell probe: a linear head on the residual stream, which the pass that runs anyway computes too."""

    tap: int
    """Decoder layers before it, at least one."""
    values: int
    """Values for each token: its sub-cells, row by row."""


@dataclass(frozen=True)
class GraphForm:
    """How a model is written down as graphs; its weights are the same in every form."""

    dialect: Dialect = "legacy"
    """legacy: opset 20, everything decomposed, the cache joined outside. modern: opset 24 with RMSNormalization,
    RotaryEmbedding, TensorScatter and Attention, the cache updated in place."""
    dtype: FloatType = "float32"
    """Type of every float input and output and of the weights; norms and softmax are float32 inside."""
    layers_per_segment: int = 0
    """Decoder layers in one graph; 0 writes the whole decoder as one graph."""
    head_parts: int = 1
    """Graphs over which the vocabulary is split."""
    probe: ProbeForm | None = None
    """Adds the output `cells` (B, S, values) to the graph that holds the tapped layer."""

    @property
    def is_whole(self) -> bool:
        """Return whether the decoder is one graph."""
        return self.layers_per_segment == 0 and self.head_parts == 1


class Rows(NamedTuple):
    """Rows of a checkpoint tensor that an initializer takes."""

    start: int
    stop: int
    total: int
    """Rows that the whole tensor has."""


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
    rows: Rows | None = None
    """Rows of the checkpoint tensor that are used, None for all; set for the parts of a split head."""
    dtype: FloatType = "float32"
    """Type of the initializer while no quantizer changed it."""

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """Return the shape of the whole checkpoint tensor, the axes of a patch kernel after the first as one."""
        shape = self.shape if self.transform is Transform.AS_IS else self.shape[::-1]
        return shape if self.rows is None else (self.rows.total, *shape[1:])


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
    rows: Rows | None = None
    """Rows of the checkpoint tensor that are the outputs, None for all."""


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
    """vision; decoder, or layers-00, layers-01, ... and head-0, head-1, ..."""
    model: ir.Model
    weights: Mapping[str, WeightUse]
    """By initializer name, in the order of the graph."""
    linears: tuple[LinearUse, ...]
    """Those that a recipe may store as integers; the cell probe is none of them."""

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
    """The graphs of a model, and the embedding table that is in none of them."""

    vision: GraphSpec
    decoder: tuple[GraphSpec, ...]
    """In running order."""
    embedding: WeightUse
    """The token table (vocabulary, hidden), kept beside the graphs."""
    form: GraphForm = GraphForm()
    """How the graphs are written down."""

    @property
    def all(self) -> tuple[GraphSpec, ...]:
        """Return every graph in running order."""
        return (self.vision, *self.decoder)


def _tensor_spec(value: ir.Value) -> TensorSpec:
    shape = value.shape
    if shape is None or value.dtype is None:
        raise ValueError(f"graph value {value.name} has no type or shape")
    sizes = tuple(size if isinstance(size, int) else str(size.value) for size in shape)
    return TensorSpec(str(value.name), value.dtype.name, sizes)
