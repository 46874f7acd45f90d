"""Where weights come from, and transformers' own modules filled with them one at a time. Needs torch.

Values are read a few rows at a time, so that loading costs no more than the module itself.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from judo_edge.core import Floats

CHUNK_BYTES = 64 << 20
"""Float32 bytes of weights that are read, or rounded, at once."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Weights(Protocol):
    """The merged weights of a checkpoint by hub name."""

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Return rows start..stop of the first axis as float32, (stop - start, ...)."""
        ...


class Matrix(Protocol):
    """A weight (out, in) that is read in pieces."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (out, in)."""
        ...

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows start..stop as float32."""
        ...


class LoadedMatrix:
    """The weight of a linear layer in memory."""

    def __init__(self, weight: Tensor) -> None:
        """Take the weight (out, in)."""
        self._weight = weight.detach()
        self.shape: tuple[int, int] = (int(weight.shape[0]), int(weight.shape[1]))

    def rows(self, start: int, stop: int) -> Tensor:
        """Return a view."""
        return self._weight[start:stop]


class StoredMatrix:
    """A weight that stays in the checkpoint: for an LM head, the one matrix larger than a layer."""

    def __init__(self, weights: Weights, name: str, shape: tuple[int, int]) -> None:
        """Name the tensor and its shape."""
        self._weights, self._name, self.shape = weights, name, shape

    def rows(self, start: int, stop: int) -> Tensor:
        """Read rows."""
        return torch.from_numpy(self._weights.rows(self._name, start, stop)).reshape(stop - start, self.shape[1])


def chunks_of(matrix: Matrix) -> range:
    """Return the starts of row blocks of at most `CHUNK_BYTES`; the step is the rows of a block."""
    out, width = matrix.shape
    return range(0, out, rows_at_once(width))


def rows_at_once(width: int) -> int:
    """Return how many rows of `width` float32 values make a chunk."""
    return max(1, CHUNK_BYTES // (4 * max(1, width)))


def filled(build: Callable[[], ModuleT], prefix: str, weights: Weights) -> ModuleT:
    """Build a module without memory, give its parameters the float32 values of `prefix`.*, and freeze it."""
    with torch.device("meta"):
        module = build()
    state = {
        name: _tensor(weights, f"{prefix}.{name}", tuple(parameter.shape))
        for name, parameter in module.named_parameters()
    }
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def _tensor(weights: Weights, name: str, shape: tuple[int, ...]) -> Tensor:
    values = torch.empty((shape[0], prod(shape[1:])), dtype=torch.float32)
    step = rows_at_once(values.shape[1])
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        values[start:stop] = torch.from_numpy(weights.rows(name, start, stop)).reshape(stop - start, -1)
    return values.reshape(shape)
