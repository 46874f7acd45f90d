"""Joins traced pieces to one graph: a piece may be repeated, each time with the weights of its own place.

Knows onnx_ir only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import identity_elimination

from judo_edge.export.graphs.spec import TensorSpec

Values = Mapping[str, ir.Value]

_IR_VERSIONS = {20: 10, 24: 11}
"""Form of the file for each operator set: 10 is read by ONNX Runtime 1.18 and TensorRT 10.3."""


def shape_from(spec: TensorSpec) -> ir.Shape:
    """Return the shape of a border."""
    return ir.Shape([size if isinstance(size, int) else ir.SymbolicDim(size) for size in spec.shape])


class Assembly:
    """A graph that grows piece by piece, in running order."""

    def __init__(self, name: str, opset: int) -> None:
        """Start an empty graph."""
        self.name, self.opset = name, opset
        self._inputs: list[ir.Value] = []
        self._nodes: list[ir.Node] = []
        self._initializers: dict[str, ir.Value] = {}
        self._tables: dict[tuple[object, ...], ir.Value] = {}

    def add_input(self, spec: TensorSpec) -> ir.Value:
        """Add an input of the graph; one that was added already is the same."""
        known = next((value for value in self._inputs if value.name == spec.name), None)
        if known is not None:
            return known
        value = ir.Value(name=spec.name, shape=shape_from(spec), type=ir.TensorType(ir.DataType[spec.dtype]))
        self._inputs.append(value)
        return value

    def add(self, place: str, piece: ir.Model, feeds: Values, weights: Mapping[str, str]) -> list[ir.Value]:
        """Add the nodes of a traced piece and return its outputs.

        `feeds` gives its inputs by name; `place` goes before the names of its nodes and values; `weights` maps the
        beginning of a weight's name in the piece to what it is called in the model.
        """
        found: dict[ir.Value, ir.Value] = {value: feeds[str(value.name)] for value in piece.graph.inputs}
        for value in piece.graph.initializers.values():
            found[value] = self._table(place, value) if value.const_value is not None else self._weight(value, weights)
        for node in piece.graph:
            self._nodes.append(_copied(node, place, found))
        return [found[value] for value in piece.graph.outputs]

    def sliced(self, name: str, value: ir.Value, bounds: Mapping[int, int], shape: ir.Shape) -> ir.Value:
        """Return the part of `value` with one index kept on each axis of `bounds`."""
        axes, starts = list(bounds), list(bounds.values())
        numbers = [self._numbers(name, x) for x in (starts, [start + 1 for start in starts], axes)]
        return self._node(ir.node("Slice", [value, *numbers], name=name), shape)

    def joined(self, name: str, values: Sequence[ir.Value], axis: int, shape: ir.Shape) -> ir.Value:
        """Return `values` one after the other along `axis`."""
        return self._node(ir.node("Concat", values, {"axis": axis}, name=name), shape)

    def model(self, outputs: Values) -> ir.Model:
        """Return the finished graph with these outputs, named so."""
        for name, value in outputs.items():
            value.name = name
        graph = ir.Graph(
            self._inputs,
            list(outputs.values()),
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": self.opset},
            name=self.name,
        )
        model = ir.Model(graph, ir_version=_IR_VERSIONS[self.opset], producer_name="judo-edge")
        identity_elimination.IdentityEliminationPass()(model)  # what a piece hands on as it came
        return model

    def _node(self, node: ir.Node, shape: ir.Shape) -> ir.Value:
        (output,) = node.outputs
        source = node.inputs[0]
        output.name, output.shape, output.type = f"{node.name}/output", shape, None if source is None else source.type
        self._nodes.append(node)
        return output

    def _numbers(self, place: str, numbers: Sequence[int]) -> ir.Value:
        name = "_".join(map(str, numbers))
        return self._table(place, ir.Value(name=name, const_value=ir.tensor(numbers, dtype=ir.DataType.INT64)))

    def _weight(self, value: ir.Value, weights: Mapping[str, str]) -> ir.Value:
        old = str(value.name)
        start = next(start for start in weights if old.startswith(start))
        name = weights[start] + old.removeprefix(start)
        if name in self._initializers:
            raise RuntimeError(f"weight {name} is in the graph already")
        self._initializers[name] = ir.Value(name=name, shape=value.shape, type=value.type)
        return self._initializers[name]

    def _table(self, place: str, value: ir.Value) -> ir.Value:
        """Return the one initializer with these numbers."""
        tensor = value.const_value
        if tensor is None:
            raise ValueError(f"{value.name} has no data")
        key = (tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes())
        if key not in self._tables:
            name = f"{place}/{value.name}"
            new = ir.Value(name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype))
            new.const_value = ir.tensor(tensor.numpy(), name=name)
            self._tables[key] = self._initializers[name] = new
        return self._tables[key]


def _copied(node: ir.Node, place: str, found: dict[ir.Value, ir.Value]) -> ir.Node:
    """Return a node that computes the same from the values in `found`, and add its outputs there."""
    inputs = [None if value is None else found[value] for value in node.inputs]
    new = ir.Node(
        node.domain,
        node.op_type,
        inputs,
        list(node.attributes.values()),
        num_outputs=len(node.outputs),
        name=f"{place}/{node.name}",
    )
    for old, value in zip(node.outputs, new.outputs, strict=True):
        value.name, value.shape, value.type = f"{place}/{old.name}", old.shape, old.type
        found[old] = value
    return new
