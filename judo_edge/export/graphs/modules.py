"""The pieces that take the place of a module's own forward while a graph is traced, in both dialects.

Each computes what the original computes, in a form that leaves nothing to do at run time: matrices lie as (in, out),
attention folds the query heads of a group into rows, windows of one size are attended together. Needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from judo_edge.export.graphs import operators
from judo_edge.export.graphs.spec import Dialect


class MatrixLinear(nn.Module):
    """A linear layer whose weight is stored as (in_features, out_features), so that the graph has one plain MatMul."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take the weight (in, out) and the bias (out,) or None."""
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight + bias over the last axis."""
        product = torch.matmul(x, self.weight)
        return product if self.bias is None else product + self.bias


class MatrixPatchEmbed(nn.Module):
    """The patch embedding as a matrix product: kernel size equals stride, so each patch row is one dot product."""

    def __init__(self, conv: nn.Conv3d) -> None:
        """Take the convolution whose kernel (out, 3, time, y, x) becomes a (3 * time * y * x, out) matrix."""
        super().__init__()
        matrix = conv.weight.new_empty((conv.weight[0].numel(), conv.weight.shape[0]))
        self.proj = MatrixLinear(matrix, None)

    def forward(self, patches: Tensor) -> Tensor:
        """Return (N, patches, hidden) from patch rows (N, patches, 3 * time * y * x)."""
        embedded: Tensor = self.proj(patches)
        return embedded


class RootNorm(nn.Module):
    """The root mean square norm, reduced in float32 whatever the types of its input and output.

    Its weight has the type of the residual stream: float32 in the vision tower, whose squares leave float16.
    """

    def __init__(self, norm: Any, dialect: Dialect, output: torch.dtype) -> None:
        """Take weight and epsilon of the original norm; `output` is the type of the matrices that follow."""
        super().__init__()
        self.weight, self.epsilon = norm.weight, float(norm.variance_epsilon)
        self.dialect, self.output = dialect, output

    def forward(self, x: Tensor) -> Tensor:
        """Return the normed x (..., hidden) in the output type."""
        if self.dialect == "modern":
            return operators.rms_normalization(x, self.weight, self.epsilon).to(self.output)
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        scaled: Tensor = self.weight * normed.to(self.weight.dtype)
        return scaled.to(self.output)


class GroupedWindowAttention(nn.Module):
    """Vision attention within runs of equal length, one batched product for each length.

    `groups` lists (windows, patches per window) in the order in which the patches lie; full attention is the one group
    (1, patches). TensorRT makes one fused attention of these plain products, and keeps the product with qkv in one
    piece, which it does not before an Attention operator.
    """

    def __init__(self, attention: Any, groups: Sequence[tuple[int, int]]) -> None:
        """Take over qkv and proj of the original attention module."""
        super().__init__()
        self.qkv, self.proj, self.num_heads = attention.qkv, attention.proj, attention.num_heads
        self.groups = tuple(groups)

    def forward(self, hidden_states: Tensor, position_embeddings: Sequence[Tensor], **_: Any) -> Tensor:
        """Return (N, patches, hidden) from (N, patches, hidden) and the tables of `vision.rotary_tables`."""
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        query, key = _rotated(query, *position_embeddings[:2]), _rotated(key, *position_embeddings[2:])
        sizes = [windows * length for windows, length in self.groups]
        split = [x.split(sizes, dim=1) for x in (query, key, value)]
        mixed = [_attended(group, *(x[i] for x in split)) for i, group in enumerate(self.groups)]
        output: Tensor = self.proj(torch.cat(mixed, dim=1) if len(mixed) > 1 else mixed[0])
        return output


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (N, patches, heads, head_dim) in float32 by tables (patches, 1, head_dim / 2); keep the type of x."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def _attended(group: tuple[int, int], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend inside each window; inputs (N, windows * length, heads, head_dim), query already scaled."""
    q, k, v = (torch.unflatten(x, 1, group).transpose(2, 3) for x in (query, key, value))
    scores = torch.matmul(q, k.transpose(-1, -2))
    weights = torch.softmax(scores.float(), dim=-1).to(v.dtype)
    return torch.matmul(weights, v).transpose(2, 3).flatten(3, 4).flatten(1, 2)
