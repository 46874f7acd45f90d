"""What is changed in a graph before OpenVINO compiles it: weights in blocks that its integer kernels take.

Where the processor multiplies bytes, OpenVINO's kernels round activations to 8 bits in groups that must divide the
blocks of all weights of a graph, and want whole blocks; what does not fit they compute in float32, three times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import numpy as np
from openvino import opset13 as ops

from judo_edge.runtime.engines.backend import Array

_LEAST = 32
"""Smallest group that the kernels take."""
_POINTWISE = ("Add", "Multiply", "Sigmoid", "Swish")
"""What stands between the layers of a gated MLP, point by point."""


@dataclass(frozen=True)
class _Blocks:
    """A linear layer's weights in blocks along its inputs."""

    product: Any
    """The MatMul."""
    codes: Array
    """(out, blocks, block) uint8 with 128 in the place of zero."""
    scales: Array
    """(out, blocks) float32."""
    in_features: int

    @property
    def is_whole(self) -> bool:
        """Say whether the last block is full."""
        return bool(self.codes[0].size == self.in_features)

    @property
    def largest(self) -> int:
        """Return the largest block that all inputs can be cut into."""
        return gcd(self.codes.shape[2], self.in_features)


def common_block(model: Any) -> int:
    """Cut last blocks that are not full into smaller full ones, and return what divides the blocks of all layers.

    Weights stay what they are: a block's parts take its scale. Layers whose width no kernel takes are left alone;
    0 when there are no others.
    """
    layers = [layer for layer in _block_layers(model) if layer.largest >= _LEAST]
    block = gcd(*(layer.largest for layer in layers))
    for layer in layers:
        if not layer.is_whole:
            layer.product.input(1).replace_source_output(_weights(layer, block).output(0))
    model.validate_nodes_and_infer_types()
    return block


def fill_blocks(model: Any) -> None:
    """Make the hidden units of a gated MLP as many as fill the last block of the layer that reads them.

    Units that are added have zeros for weights and bias, so they are zero and what reads them stays what it is; a
    tower of 3,420 or 1,712 units has no other way to whole blocks. Layers that read anything else are left alone.
    """
    known = {layer.product.get_friendly_name(): layer for layer in _block_layers(model)}
    for layer in known.values():
        sources = None if layer.largest >= _LEAST else _sources(layer.product)
        made = [known.get(node.get_friendly_name()) for node in sources or () if node.get_type_name() == "MatMul"]
        if sources and all(source is not None and source.is_whole for source in made):
            _fill(layer, sources, known)
    model.validate_nodes_and_infer_types()


def _sources(product: Any) -> list[Any] | None:
    """Return the products and constants that make what a layer reads, point by point; None if others see it too."""
    seen, sources, waiting = {product.get_friendly_name()}, [], [product.input_value(0).get_node()]
    inner = []
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() in seen:
            continue
        seen.add(node.get_friendly_name())
        if node.get_type_name() in _POINTWISE:
            inner.append(node)
            waiting += [node.input_value(number).get_node() for number in range(node.get_input_size())]
        elif node.get_type_name() in ("MatMul", "Constant"):
            sources.append(node)
        else:
            return None
    readers = {reader.get_node().get_friendly_name() for node in (*inner, *sources) for reader in _readers(node)}
    return sources if readers <= seen else None


def _readers(node: Any) -> Any:
    return node.output(0).get_target_inputs()


def _fill(layer: _Blocks, sources: list[Any], known: dict[str, _Blocks]) -> None:
    """Add zeros to the layer's sources and let it read its whole last block."""
    missing = layer.codes[0].size - layer.in_features
    for node in sources:
        if node.get_type_name() == "MatMul":
            source = known[node.get_friendly_name()]
            codes = np.pad(source.codes, ((0, missing), (0, 0), (0, 0)), constant_values=128)
            wide = replace(source, codes=codes, scales=np.pad(source.scales, ((0, missing), (0, 0))))
            node.input(1).replace_source_output(_weights(wide, source.codes.shape[2]).output(0))
        elif np.asarray(node.data).shape[-1:] == (layer.in_features,):
            data = np.asarray(node.data)
            padded = np.pad(data, [(0, 0)] * (data.ndim - 1) + [(0, missing)])
            for reader in _readers(node):
                reader.replace_source_output(ops.constant(padded).output(0))
    cut = layer.product.input_value(1).get_node()
    layer.product.input(1).replace_source_output(cut.input_value(0))


def _block_layers(model: Any) -> Iterator[_Blocks]:
    """Find what OpenVINO's reader, or `_weights`, makes of MatMulNBits with 8 bits."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul":
            layer = _blocks_from_product(node)
            if layer is not None:
                yield layer


def _blocks_from_product(product: Any) -> _Blocks | None:
    """Read a product's weights; None when they are no 8-bit blocks."""
    node = _behind(product.input_value(1).get_node(), "Slice")  # a last block that is not full is cut off
    scaled = _behind(node, "Reshape")
    codes = _constant(scaled, "Multiply", "Subtract", "Convert")
    if codes is None or codes.dtype not in (np.uint8, np.int8) or codes.ndim != 3:
        return None
    if codes.dtype == np.int8:  # as `_weights` leaves them
        codes = codes.view(np.uint8) ^ np.uint8(128)
    scales = _constant(scaled.input_value(1).get_node(), "Reshape", "Convert")
    if scales is None:
        return None
    size = product.input_value(1).get_partial_shape()[1].get_length()
    return _Blocks(product, codes, scales.reshape(codes.shape[:2]), size)


def _behind(node: Any, kind: str) -> Any:
    """Return what a node of this kind reads first; any other node itself."""
    return node.input_value(0).get_node() if node.get_type_name() == kind else node


def _constant(node: Any, *kinds: str) -> Array | None:
    """Follow first inputs through nodes of these kinds, each of which may be missing, to a constant's content."""
    for kind in kinds:
        node = _behind(node, kind)
    return np.asarray(node.data) if node.get_type_name() == "Constant" else None


def _weights(layer: _Blocks, block: int) -> Any:
    """Return nodes (out, in) of the same weights in smaller blocks."""
    codes = layer.codes.reshape(len(layer.codes), -1)[:, : layer.in_features]
    signed = (codes ^ np.uint8(128)).view(np.int8).reshape(len(codes), -1, block)
    scales = np.repeat(layer.scales, layer.codes.shape[2] // block, axis=1)[:, : signed.shape[1], None]
    wide = ops.multiply(ops.convert(ops.constant(signed), "f32"), ops.constant(scales.astype(np.float32)))
    return ops.reshape(wide, ops.constant(np.array([len(codes), -1])), special_zero=False)
