"""Scales of one group of linears that share an input: candidates, the error of each, the best with ones as fallback.

SmoothQuant (arXiv 2211.10438): s = max|x|^a / max|W|^(1-a). AWQ (arXiv 2306.00978): s = mean|x|^p. Both are brought to
a geometric mean of 1, so that float16 inputs stay in range. Needs torch; reads weights in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from judo_edge.calibration.file import ERROR_FORMS, ErrorForm, Settings
from judo_edge.calibration.rounding import InputScales, product, static_scale
from judo_edge.calibration.statistics import InputStatistics
from judo_edge.calibration.weights import Matrix, chunks_of

_FLOOR = 1e-5
"""Smallest magnitude that takes part in a scale, relative to the largest."""
_REACH = 1024.0
"""A vector stays within 1 / 1024 and 1024, so that its inverse and the scaled input are normal in float16."""


@dataclass(frozen=True)
class Chosen:
    """The scales of a group and the exponents that they come from; None where ones are kept."""

    scales: InputScales
    alpha: float | None
    awq_power: float | None


def chosen_scales(matrices: Sequence[Matrix], seen: InputStatistics, settings: Settings) -> Chosen:
    """Search both kinds of scale on the rows of the samples that are not held out."""
    rows, _ = seen.rows(held_out=False)
    alpha, smooth = _best("int8-static", matrices, rows, _smooth_candidates(matrices, seen, settings), settings)
    power, awq = _best("int4-block", matrices, rows, _awq_candidates(seen, settings), settings)
    return Chosen(InputScales(smooth.smooth, smooth.input_scale, awq.awq), alpha, power)


def column_maxima(matrices: Sequence[Matrix]) -> Tensor:
    """Return the largest magnitude of each input's weights (in,) over all outputs of a group."""
    starts = [(matrix, start, chunks_of(matrix).step) for matrix in matrices for start in chunks_of(matrix)]
    parts = [matrix.rows(start, min(start + step, matrix.shape[0])).abs().amax(dim=0) for matrix, start, step in starts]
    return torch.stack(parts).amax(dim=0)


def smooth_vector(ranges: Tensor, maxima: Tensor, alpha: float) -> Tensor:
    """Return SmoothQuant's vector (in,) for one alpha; 1 for a channel that is always zero."""
    inputs, weights = _floored(ranges), _floored(maxima)
    return _centred(inputs**alpha / weights ** (1 - alpha), ranges > 0)


def awq_vector(means: Tensor, power: float) -> Tensor:
    """Return AWQ's vector (in,) for one exponent; 1 for a channel that is always zero."""
    return _centred(_floored(means) ** power, means > 0)


def squared_errors(form: ErrorForm, matrix: Matrix, rows: Tensor, scales: Sequence[InputScales]) -> Tensor:
    """Return ||y_q - y||^2 of each row for each candidate, and last ||y||^2, (candidates + 1, n) float64."""
    totals = torch.zeros(len(scales) + 1, len(rows), dtype=torch.float64)
    starts = chunks_of(matrix)
    for start in starts:
        part = matrix.rows(start, min(start + starts.step, matrix.shape[0]))
        exact = rows @ part.T
        for place, candidate in enumerate(scales):
            totals[place] += (product(form, rows, part, candidate) - exact).square().sum(dim=1, dtype=torch.float64)
        totals[-1] += exact.square().sum(dim=1, dtype=torch.float64)
    return totals


def relative(errors: Tensor, totals: Tensor) -> float:
    """Return the root of summed squared errors by summed squares; 0 where there is nothing but zeros."""
    whole = float(totals.sum())
    return (float(errors.sum()) / whole) ** 0.5 if whole > 0 else 0.0


def errors_by_form(matrix: Matrix, rows: Tensor, scales: InputScales) -> dict[ErrorForm, Tensor]:
    """Return for each form the squared errors and squares of each row, (2, n)."""
    return {form: squared_errors(form, matrix, rows, [scales]) for form in ERROR_FORMS}


def _best(
    form: ErrorForm,
    matrices: Sequence[Matrix],
    rows: Tensor,
    candidates: dict[float | None, InputScales],
    settings: Settings,
) -> tuple[float | None, InputScales]:
    """Return the exponent with the least relative error over the group; None is the one with ones."""
    names, scales = list(candidates), list(candidates.values())
    errors = torch.zeros(len(scales), dtype=torch.float64)
    for matrix in matrices:
        totals = squared_errors(form, matrix, rows, scales)
        whole = totals[-1].sum()
        errors += totals[:-1].sum(dim=1) / whole if whole > 0 else 0
    best = int(errors.argmin())
    plain = names.index(None)
    if float(errors[best]) > float(errors[plain]) * (1 - settings.min_gain) ** 2:
        best = plain
    return names[best], scales[best]


def _smooth_candidates(
    matrices: Sequence[Matrix], seen: InputStatistics, settings: Settings
) -> dict[float | None, InputScales]:
    ranges, ones = seen.ranges, torch.ones_like(seen.ranges)
    maxima = column_maxima(matrices)
    vectors: dict[float | None, Tensor] = {None: ones}
    vectors |= {alpha: smooth_vector(ranges, maxima, alpha) for alpha in settings.smooth_alphas}
    return {alpha: InputScales(vector, static_scale(ranges / vector), ones) for alpha, vector in vectors.items()}


def _awq_candidates(seen: InputStatistics, settings: Settings) -> dict[float | None, InputScales]:
    means, ones = seen.mean_magnitude, torch.ones_like(seen.ranges)
    vectors: dict[float | None, Tensor] = {None: ones}
    vectors |= {power: awq_vector(means, power) for power in settings.awq_powers}
    return {power: InputScales(ones, 1.0, vector) for power, vector in vectors.items()}


def _floored(values: Tensor) -> Tensor:
    largest = float(values.max())
    return values.clamp(min=largest * _FLOOR if largest > 0 else 1.0)


def _centred(scales: Tensor, is_used: Tensor) -> Tensor:
    """Bring the scales of used channels to a geometric mean of 1, and the others to 1."""
    if not bool(is_used.any()):
        return torch.ones_like(scales)
    centred = (scales / scales[is_used].log().mean().exp()).clamp(1 / _REACH, _REACH)
    return torch.where(is_used, centred, torch.ones_like(scales))
