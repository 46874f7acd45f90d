"""What each stored form makes of a product x W^T, simulated in float32: the slow truth that errors are measured by.

All forms are symmetric and rounded to nearest: int8 per output channel with 127 steps, int4 in blocks of 128 along the
input with 7 steps. Static int8 inputs saturate as QuantizeLinear does. Needs torch; knows no layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from judo_edge.calibration.file import ErrorForm

INT4_BLOCK = 128
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class InputScales:
    """What happens to the input of a group of linears."""

    smooth: Tensor
    """(in,)"""
    input_scale: float
    awq: Tensor
    """(in,)"""


def int8_channel(rows: Tensor) -> Tensor:
    """Return the values that int8 with one scale per row stands for, (n, in)."""
    return _rounded(rows, 127)


def int4_block(rows: Tensor) -> Tensor:
    """Return the values that int4 with one scale per 128 inputs of a row stands for, (n, in)."""
    count, width = rows.shape
    padded = F.pad(rows, (0, -width % INT4_BLOCK))
    return _rounded(padded.view(count, -1, INT4_BLOCK), 7).reshape(count, -1)[:, :width]


def static_int8(inputs: Tensor, scale: float) -> Tensor:
    """Return the values that int8 inputs with one static scale stand for; larger ones saturate."""
    return (inputs / scale).round_().clamp_(-128, 127).mul_(scale)


def product(form: ErrorForm, inputs: Tensor, rows: Tensor, scales: InputScales) -> Tensor:
    """Return x W^T as a form computes it, (n, out), from inputs (n, in) and some rows of the weight (out, in)."""
    if form == "int8-channel":
        return inputs @ int8_channel(rows).T
    if form == "int8-static":
        rounded = static_int8(inputs / scales.smooth, scales.input_scale)
        return rounded @ int8_channel(rows * scales.smooth).T
    return (inputs / scales.awq) @ int4_block(rows * scales.awq).T


def static_scale(ranges: Tensor) -> float:
    """Return the scale that covers ranges (in,) of a smoothed input; 1 / 127 where nothing but zeros was seen."""
    largest = float(ranges.max())
    return largest / 127 if largest > _TINY else 1 / 127


def _rounded(values: Tensor, steps: int) -> Tensor:
    """Round along the last axis; a run of zeros gets scale 1, so that no scale is zero."""
    scale = values.abs().amax(dim=-1, keepdim=True) / steps
    scale = torch.where(scale < _TINY, torch.ones_like(scale), scale)
    return (values / scale).round_().mul_(scale)
