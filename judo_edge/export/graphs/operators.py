"""ONNX operators that torch has no operator for, as calls that the tracer writes down.

All but `gather` exist from opset 23 and 24 on. Outside of a trace they compute nothing. Needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, onnx

_Attributes = dict[str, int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]]
_FLOAT = 1
"""ONNX's number for float32, the type in which norms are reduced."""


def rms_normalization(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return x / root mean square over the last axis * weight; x and weight of one type, reduced in float32."""
    attributes: _Attributes = {"axis": -1, "epsilon": epsilon, "stash_type": _FLOAT}
    return onnx.ops.symbolic("RMSNormalization", (x, weight), attributes, dtype=x.dtype, shape=x.shape)


def rotary_embedding(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return x (B, heads, S, head_dim) rotated by tables (B, S, head_dim / 2); pairs lie half a head apart."""
    return onnx.ops.symbolic("RotaryEmbedding", (x, cos, sin), {"interleaved": 0}, dtype=x.dtype, shape=x.shape)


def tensor_scatter(cache: Tensor, update: Tensor, write: Tensor) -> Tensor:
    """Return the cache (B, heads, C, head_dim) with `update` (B, heads, S, head_dim) at row write[b] and after."""
    attributes: _Attributes = {"axis": -2, "mode": "linear"}
    return onnx.ops.symbolic("TensorScatter", (cache, update, write), attributes, dtype=cache.dtype, shape=cache.shape)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Return softmax(query @ key^T + mask) @ value for (B, heads, rows, head_dim); the query is scaled already.

    The precision of the softmax is the runtime's: TensorRT refuses the attribute that would ask for float32.
    """
    inputs = (query, key, value, mask)
    return onnx.ops.symbolic("Attention", inputs, {"scale": 1.0}, dtype=query.dtype, shape=query.shape)


def gather(x: Tensor, rows: Tensor) -> Tensor:
    """Return (B, R, D) from x (B, S, D) and rows (R,) int64."""
    shape = (x.shape[0], rows.shape[0], x.shape[2])
    return onnx.ops.symbolic("Gather", (x, rows), {"axis": 1}, dtype=x.dtype, shape=shape)
