"""Logistic regression of several labels on the same features: convex, so the same data gives the same answer.

Knows matrices alone. Needs torch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_STEPS = 150


class Regression(NamedTuple):
    """Logits are features @ weight.T + bias."""

    weight: Tensor
    """(labels, features) float32"""
    bias: Tensor
    """(labels,) float32"""

    def logits(self, features: Tensor) -> Tensor:
        """Return (n, labels) of features (n, features)."""
        return F.linear(features, self.weight, self.bias)


def regression(features: Tensor, labels: Tensor, counts: Tensor, penalty: float) -> Regression:
    """Fit `labels` (n, k) of 0 and 1 on `features` (n, d), which are standardised in place; by L-BFGS.

    `counts` (n,) says how many rows each one stands for. `penalty` is that of half the squared weights of the
    standardised features, against the mean loss of a row. At most 150 steps.
    """
    mean, deviation = _standardised(features, counts)
    weight = torch.zeros(labels.shape[1], features.shape[1], requires_grad=True)
    bias = _log_odds(labels, counts).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        each = F.binary_cross_entropy_with_logits(F.linear(features, weight, bias), labels, reduction="none")
        total = (each * counts[:, None]).sum() / counts.sum() + 0.5 * penalty * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    scaled = weight.detach() / deviation
    return Regression(scaled, bias.detach() - scaled @ mean)


def _standardised(features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Give every feature mean 0 and deviation 1, in place; return what they were. A constant one becomes 0."""
    share = (counts / counts.sum())[:, None]
    mean = (features * share).sum(0)
    features.sub_(mean)
    deviation = (features.square() * share).sum(0).sqrt().clamp_min(1e-6)
    features.div_(deviation)
    return mean, deviation


def _log_odds(labels: Tensor, counts: Tensor) -> Tensor:
    """Return the bias (k,) that is right where nothing is known but how frequent a label is."""
    positive = (labels * counts[:, None]).sum(0) + 0.5
    return torch.log(positive / (counts.sum() + 1 - positive))
