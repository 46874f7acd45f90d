"""Weight-only int8: blocks of weights with a scale each, and the graph node that reads them.

Layout of ONNX Runtime's MatMulNBits (com.microsoft, opset 1): weights uint8 (out, blocks, block) with zero point 128,
scales float32 (out * blocks,). Symmetric, rounded to nearest, |q - 128| <= 127. Knows nothing of files.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from judo_edge.core import Floats
from judo_edge.export.graphs import GraphSpec, LinearUse
from judo_edge.export.recipe import Int8Form

ZERO_POINT = 128
"""What MatMulNBits assumes for 8 bits when no zero points are given."""
_DOMAIN = "com.microsoft"

Bytes = npt.NDArray[np.uint8]


def num_blocks(in_features: int, block: int) -> int:
    """Return how many blocks cover an input; the last one may be padded."""
    return -(-in_features // block)


def blocks_from_rows(rows: Floats, block: int) -> tuple[Bytes, Floats]:
    """Quantize rows (n, in) to weights (n, blocks, block) uint8 and scales (n, blocks) float32.

    The last block is padded with zeros. A block of zeros gets scale 1, so that no scale is zero.
    """
    count, width = rows.shape
    padded = np.zeros((count, num_blocks(width, block) * block), np.float32)
    padded[:, :width] = rows
    blocks = padded.reshape(count, -1, block)
    scales = np.maximum(blocks.max(axis=2), -blocks.min(axis=2)) / np.float32(127)
    scales[scales < np.finfo(np.float32).tiny] = 1
    blocks /= scales[:, :, None]
    np.rint(blocks, out=blocks)
    blocks += ZERO_POINT
    return blocks.astype(np.uint8), scales


def rows_from_blocks(weights: Bytes, scales: Floats, in_features: int) -> Floats:
    """Return the float32 rows (n, in) that int8 blocks stand for: the reference for tests and parity."""
    values = (weights.astype(np.float32) - ZERO_POINT) * scales[:, :, None]
    return values.reshape(len(weights), -1)[:, :in_features]


def int8_names(weight: str) -> tuple[str, str]:
    """Return the initializers that take the place of a matrix: weights and scales."""
    return f"{weight}.int8", f"{weight}.scales"


def use_int8(graph: GraphSpec, linear: LinearUse, form: Int8Form) -> None:
    """Let the graph read int8 blocks for one linear layer; the new initializers have no data yet.

    The MatMul becomes a MatMulNBits; a following Add of the bias stays.
    """
    inner = graph.model.graph
    node = next(node for node in inner if node.name == linear.node)
    blocks = num_blocks(linear.in_features, form.block)
    shapes = ((linear.out_features, blocks, form.block), (linear.out_features * blocks,))
    weights, scales = (
        ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        for name, shape, dtype in zip(
            int8_names(linear.weight), shapes, (ir.DataType.UINT8, ir.DataType.FLOAT), strict=True
        )
    )
    quantized = _node(node, linear, form, weights, scales)
    output, name = node.outputs[0], node.outputs[0].name
    quantized.outputs[0].shape, quantized.outputs[0].type = output.shape, output.type
    ir.convenience.replace_nodes_and_values(inner, node, [node], [quantized], [output], quantized.outputs)
    quantized.outputs[0].name = name
    del inner.initializers[linear.weight]
    for value in (weights, scales):
        inner.initializers[str(value.name)] = value
    graph.model.opset_imports[_DOMAIN] = 1


def _node(node: ir.Node, linear: LinearUse, form: Int8Form, weights: ir.Value, scales: ir.Value) -> ir.Node:
    attributes = {
        "K": linear.in_features,
        "N": linear.out_features,
        "bits": 8,
        "block_size": form.block,
        "accuracy_level": form.accuracy_level,
    }
    inputs = [node.inputs[0], weights, scales]
    return ir.node("MatMulNBits", inputs, attributes, domain=_DOMAIN, name=node.name)
