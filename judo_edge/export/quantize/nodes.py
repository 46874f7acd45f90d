"""Graph nodes that read stored integers in the place of a float matrix.

Rewrites one linear layer at a time; layers that read the same value with the same vector or scale share those nodes.
The new initializers of weights and scales have no data; vectors, static scales and zero points are small and have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from judo_edge.export.graphs import GraphSpec, LinearUse
from judo_edge.export.quantize.grid import Grid
from judo_edge.export.quantize.smooth import Smoothing

_DOMAIN = "com.microsoft"
_BLOCKED_OPSET = 21
"""First operator set with INT4 and with DequantizeLinear in blocks; what it adds to 20 changes no other node here."""
_INT4_VERSION = 10
"""First version of the file format with INT4."""


def part_names(weight: str, bits: int) -> tuple[str, str]:
    """Return the initializers that take the place of a matrix: weights and scales."""
    return f"{weight}.int{bits}", f"{weight}.scales"


class LinearRewriter:
    """Rewrites the linear layers of one graph."""

    def __init__(self, graph: GraphSpec) -> None:
        """Look up the nodes of the linear layers; nothing changes yet."""
        self._graph, self._model = graph.model.graph, graph.model
        self._nodes = {node.name: node for node in self._graph}
        self._shared: dict[tuple[ir.Value, bytes], ir.Value] = {}

    def use_nbits(self, linear: LinearUse, grid: Grid, accuracy_level: int, smoothing: Smoothing | None = None) -> None:
        """Let a MatMulNBits read blocks of integers; a following Add of the bias stays."""
        node = self._nodes[linear.node]
        blocks = grid.num_scales(linear.in_features)
        weights, scales = part_names(linear.weight, grid.bits)
        shape = (linear.out_features, blocks, grid.block * grid.bits // 8)
        inputs = [
            self._smoothed(node, linear, smoothing),
            self._empty(weights, ir.DataType.UINT8, shape),
            self._empty(scales, _type_of(node), (linear.out_features * blocks,)),
        ]
        attributes = {
            "K": linear.in_features,
            "N": linear.out_features,
            "bits": grid.bits,
            "block_size": grid.block,
            "accuracy_level": accuracy_level,
        }
        self._replace(node, ir.node("MatMulNBits", inputs, attributes, domain=_DOMAIN, name=node.name))
        del self._graph.initializers[linear.weight]
        self._model.opset_imports[_DOMAIN] = 1

    def use_dequantized(
        self, linear: LinearUse, grid: Grid, smoothing: Smoothing | None = None, input_scale: float | None = None
    ) -> None:
        """Let the MatMul read integers (in, out) through a DequantizeLinear, channels or blocks along the inputs.

        With `input_scale` its input is rounded to int8 by that scale.
        """
        node = self._nodes[linear.node]
        x = self._smoothed(node, linear, smoothing)
        if input_scale is not None:
            x = self._rounded(x, linear, np.array(input_scale, _numpy_type_of(node)))
        node.replace_input_with(0, x)
        node.replace_input_with(1, self._dequantized(node, linear, grid))
        del self._graph.initializers[linear.weight]

    def _dequantized(self, node: ir.Node, linear: LinearUse, grid: Grid) -> ir.Value:
        """Insert the DequantizeLinear of a matrix; int8 has the explicit zero point that ONNX Runtime fuses by."""
        names = part_names(linear.weight, grid.bits)
        size, outputs, dtype = linear.in_features, linear.out_features, _type_of(node)
        weights = self._empty(names[0], ir.DataType.INT4 if grid.bits == 4 else ir.DataType.INT8, (size, outputs))
        if grid.block:
            scales = self._empty(names[1], dtype, (grid.num_scales(size), outputs))
            inputs, attributes = [weights, scales], {"axis": 0, "block_size": grid.block}
            self._model.opset_imports[""] = max(self._model.opset_imports[""], _BLOCKED_OPSET)
            self._model.ir_version = max(self._model.ir_version, _INT4_VERSION)
        else:
            zeros = self._constant(f"zeros.{outputs}", np.zeros(outputs, np.int8))
            inputs, attributes = [weights, self._empty(names[1], dtype, (outputs,)), zeros], {"axis": 1}
        made = _node("DequantizeLinear", inputs, attributes, f"{linear.node}.dequantize", weights.shape, dtype)
        self._graph.insert_before(node, made)
        return made.outputs[0]

    def _smoothed(self, node: ir.Node, linear: LinearUse, smoothing: Smoothing | None) -> ir.Value:
        """Return the layer's input times the multiplier, made once for all layers that read it so."""
        x = _input_of(node)
        if smoothing is None:
            return x
        key = (x, smoothing.multiplier.tobytes())
        if key not in self._shared:
            vector = self._constant(f"{linear.node}.multiplier", smoothing.multiplier)
            made = _node("Mul", [x, vector], {}, f"{linear.node}.smooth", x.shape, _type_of(node))
            self._insert_behind(x, made)
            self._shared[key] = made.outputs[0]
        return self._shared[key]

    def _rounded(self, x: ir.Value, linear: LinearUse, scale: npt.NDArray[Any]) -> ir.Value:
        """Return a value rounded to int8 and back, made once for each scale."""
        key = (x, scale.tobytes())
        if key not in self._shared:
            name, dtype = f"{linear.node}.input", ir.DataType.from_numpy(scale.dtype)
            zero = self._constant("zeros.0", np.zeros((), np.int8))
            inputs = [self._constant(f"{name}.scale", scale), zero]
            down = _node("QuantizeLinear", [x, *inputs], {}, f"{name}.quantize", x.shape, ir.DataType.INT8)
            up = _node("DequantizeLinear", [*down.outputs, *inputs], {}, f"{name}.dequantize", x.shape, dtype)
            self._insert_behind(x, down, up)
            self._shared[key] = up.outputs[0]
        return self._shared[key]

    def _insert_behind(self, x: ir.Value, *nodes: ir.Node) -> None:
        if (producer := x.producer()) is not None:
            self._graph.insert_after(producer, nodes)
        else:
            self._graph.insert_before(self._graph[0], nodes)

    def _replace(self, old: ir.Node, new: ir.Node) -> None:
        output, name = old.outputs[0], old.outputs[0].name
        new.outputs[0].shape, new.outputs[0].type = output.shape, output.type
        ir.convenience.replace_nodes_and_values(self._graph, old, [old], [new], [output], new.outputs)
        new.outputs[0].name = name

    def _empty(self, name: str, dtype: ir.DataType, shape: tuple[int, ...]) -> ir.Value:
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self._graph.initializers[name] = value
        return value

    def _constant(self, name: str, array: npt.NDArray[Any]) -> ir.Value:
        """Return the initializer of this name with data, made once."""
        if name not in self._graph.initializers:
            tensor = ir.tensor(array, name=name)
            value = ir.Value(
                name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            self._graph.initializers[name] = value
        return self._graph.initializers[name]


def _node(
    kind: str, inputs: list[ir.Value], attributes: dict[str, Any], name: str, shape: Any, dtype: ir.DataType
) -> ir.Node:
    """Make a node of one output with its name, shape and type."""
    made = ir.node(kind, inputs, attributes, name=name)
    output = made.outputs[0]
    output.name, output.shape, output.type = f"{name}.output", shape, ir.TensorType(dtype)
    return made


def _input_of(node: ir.Node) -> ir.Value:
    x = node.inputs[0]
    if x is None:
        raise ValueError(f"{node.name} has no input")
    return x


def _type_of(node: ir.Node) -> ir.DataType:
    """Return the type of a MatMul: that of the float matrix it was traced with."""
    dtype = node.outputs[0].dtype
    if dtype is None:
        raise ValueError(f"{node.name} has no type")
    return dtype


def _numpy_type_of(node: ir.Node) -> np.dtype[Any]:
    numpy_type: np.dtype[Any] = _type_of(node).numpy()
    return numpy_type
