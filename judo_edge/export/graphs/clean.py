"""From what the exporter wrote to what the bundle stores.

Takes the numbers out, folds constants, names the sizes, and makes the root mean square norms recognisable to runtimes.
Knows onnx_ir only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir


def emptied(model: ir.Model, weights: Sequence[str]) -> None:
    """Remove the fake data of the initializers named in `weights`; make numpy tensors of the real ones."""
    for name, value in model.graph.initializers.items():
        if name in weights:
            value.const_value = None
        elif value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().copy(), name=name)


def folded(model: ir.Model) -> None:
    """Fold constants and drop what is unused."""
    from onnxscript import optimizer

    optimizer.optimize_ir(model, num_iterations=3, onnx_shape_inference=False)


def with_divided_norms(model: ir.Model) -> None:
    """Write x * Reciprocal(root) as x / root, the form that ONNX Runtime and TensorRT fuse into one norm."""
    for node in list(model.graph):
        if node.op_type == "Reciprocal":
            root, inverse = node.inputs[0], node.outputs[0]
            for user in [use.node for use in inverse.uses()]:
                _divide(model.graph, user, inverse, root)
            model.graph.remove(node, safe=True)


def with_named_sizes(model: ir.Model, names: Mapping[str, Sequence[int | str]]) -> None:
    """Rename the exporter's symbols in every shape; `names` gives each input's shape with the wanted names."""
    symbols: dict[str, str] = {}
    for value in model.graph.inputs:
        for found, wanted in zip(value.shape or [], names[str(value.name)], strict=True):
            if isinstance(found, ir.SymbolicDim) and found.value is not None:
                symbols[found.value] = str(wanted)
    for value in _values(model):
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(size, symbols) for size in value.shape])


def with_constant_shapes(model: ir.Model) -> None:
    """Give every Reshape a constant shape where its own says it: 0 keeps a size, one -1 stands for what is left."""
    for node in list(model.graph):
        if node.op_type == "Reshape" and node.inputs[1] is not None and node.inputs[1].const_value is None:
            shape = _reshape_sizes(node)
            if shape is not None:
                node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)
                node.replace_input_with(1, _constant(model.graph, f"{node.name}_shape", shape))
    ir.passes.common.RemoveUnusedNodesPass()(model)


def _reshape_sizes(node: ir.Node) -> list[int] | None:
    """Return the constant for a Reshape, None when more than one size is left open."""
    source, target = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or target.shape is None:
        return None
    old = list(source.shape)
    kept = [axis for axis, size in enumerate(target.shape) if axis < len(old) and old[axis] == size]
    sizes = [size if isinstance(size, int) else 0 if axis in kept else -1 for axis, size in enumerate(target.shape)]
    return sizes if sizes.count(-1) <= 1 else None


def _constant(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    tensor = ir.tensor(numbers, dtype=ir.DataType.INT64, name=name)
    kind = ir.TensorType(ir.DataType.INT64)
    value = ir.Value(name=name, shape=ir.Shape([len(numbers)]), type=kind, const_value=tensor)
    graph.initializers[name] = value
    return value


def _divide(graph: ir.Graph, user: ir.Node, inverse: ir.Value, root: Any) -> None:
    others = [value for value in user.inputs if value is not inverse]
    if user.op_type != "Mul" or len(others) != 1:
        raise RuntimeError(f"reciprocal used by {user.op_type} {user.name}, wanted a product with another value")
    output = user.outputs[0]
    quotient = ir.node("Div", [others[0], root], name=user.name)
    quotient.outputs[0].shape, quotient.outputs[0].type = output.shape, output.type
    name = output.name
    ir.convenience.replace_nodes_and_values(graph, user, [user], [quotient], [output], quotient.outputs)
    quotient.outputs[0].name = name


def _values(model: ir.Model) -> list[ir.Value]:
    inner = [output for node in model.graph for output in node.outputs]
    return [*model.graph.inputs, *inner]


def _renamed(size: Any, symbols: Mapping[str, str]) -> Any:
    if not isinstance(size, ir.SymbolicDim) or size.value is None:
        return size
    return ir.SymbolicDim(re.sub(r"\w+", lambda match: symbols.get(match[0], match[0]), size.value))
