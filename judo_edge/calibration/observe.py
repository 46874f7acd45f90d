"""One part of the model at a time: all records through it, statistics of its inputs, scales, errors, sensitivity.

Knows how a linear layer is watched and how it is replaced by a stored form for a while. Needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from judo_edge.calibration.file import ERROR_FORMS, TOKEN_KINDS, ErrorForm, LayerEntry, LinearEntry, Settings
from judo_edge.calibration.rounding import InputScales, product
from judo_edge.calibration.scratch import Scratch
from judo_edge.calibration.search import Chosen, chosen_scales, errors_by_form, relative
from judo_edge.calibration.stages import Stage
from judo_edge.calibration.statistics import TEXT, VISUAL, InputStatistics, Record
from judo_edge.calibration.weights import LoadedMatrix, Matrix, rows_at_once

Tick = Callable[[str, int], None]
"""Is told what is being done, and how many records have passed since the last call."""


@dataclass(frozen=True)
class GroupResult:
    """What was found for one group of linears; vectors are (in,) float32."""

    entries: tuple[LinearEntry, ...]
    absmax_visual: Tensor
    absmax_text: Tensor
    scales: InputScales
    gram: Tensor | None


@dataclass(frozen=True)
class StageResult:
    """What was found for one part of the model."""

    groups: tuple[GroupResult, ...]
    layer: LayerEntry


def passed(
    stage: Stage,
    module: nn.Module,
    records: Sequence[Record],
    source: Scratch,
    target: Scratch,
    settings: Settings,
    tick: Tick,
) -> dict[str, InputStatistics]:
    """Send every record through a part, write what comes out, and return its statistics by first linear of a group."""
    seen = {}
    for group in stage.groups:
        width = int(module.get_submodule(group[0]).in_features)  # type: ignore[arg-type]
        seen[group[0]] = InputStatistics(width, settings.gram and width <= settings.gram_max_features)
    for index, record in enumerate(records):
        rows = torch.from_numpy(source.read(index))
        with _watched(module, seen, record):
            target.write(index, stage.forward(module, index, rows).numpy())
        tick(stage.name, 1)
    return seen


def stage_result(
    stage: Stage,
    module: nn.Module,
    seen: dict[str, InputStatistics],
    records: Sequence[Record],
    source: Scratch,
    settings: Settings,
    tick: Tick,
) -> StageResult:
    """Search the scales of every group, measure every form, and the whole part in every form."""
    groups = []
    for names in stage.groups:
        tick(f"{stage.name}: {names[0]}", 0)
        matrices = {
            f"{stage.name}.{name}.weight": LoadedMatrix(module.get_parameter(f"{name}.weight")) for name in names
        }
        groups.append(group_result(matrices, seen.pop(names[0]), settings))
    scales = {name: group.scales for names, group in zip(stage.groups, groups, strict=True) for name in names}
    tick(f"{stage.name}: whole", 0)
    held = [index for index, record in enumerate(records) if record.held_out and record.picked.size]
    layer = layer_entry(stage, module, scales, source, _spread(held, settings.sensitivity_samples))
    return StageResult(tuple(groups), layer)


def group_result(matrices: dict[str, Any], seen: InputStatistics, settings: Settings) -> GroupResult:
    """Choose scales for linears that share an input, and measure each of them on held-out rows."""
    chosen = chosen_scales(list(matrices.values()), seen, settings)
    entries = tuple(_entry(weight, next(iter(matrices)), matrix, seen, chosen) for weight, matrix in matrices.items())
    return GroupResult(entries, seen.absmax(VISUAL), seen.absmax(TEXT), chosen.scales, seen.gram)


def layer_entry(
    stage: Stage, module: nn.Module, scales: dict[str, InputScales], source: Scratch, records: Sequence[int]
) -> LayerEntry:
    """Measure the output of a whole part with all its linears in one form, on some held-out records."""
    inputs = {index: torch.from_numpy(source.read(index)) for index in records}
    exact = {index: stage.forward(module, index, rows) for index, rows in inputs.items()}
    outputs: dict[ErrorForm, float] = {}
    updates: dict[ErrorForm, float] = {}
    for form in ERROR_FORMS:
        with _rounded(module, form, scales):
            errors = _stacked([_squares(stage.forward(module, i, rows) - exact[i]) for i, rows in inputs.items()])
        outputs[form] = relative(errors, _stacked([_squares(exact[i]) for i in inputs]))
        if all(exact[i].shape == rows.shape for i, rows in inputs.items()):
            updates[form] = relative(errors, _stacked([_squares(exact[i] - rows) for i, rows in inputs.items()]))
    return LayerEntry(name=stage.name, output_errors=outputs, update_errors=updates)


def _entry(weight: str, group: str, matrix: Matrix, seen: InputStatistics, chosen: Chosen) -> LinearEntry:
    rows, kinds = seen.rows(held_out=True)
    measured = errors_by_form(matrix, rows, chosen.scales)
    codes = torch.from_numpy(kinds).long()

    def errors(among: tuple[int, ...]) -> dict[ErrorForm, float]:
        is_in = torch.isin(codes, torch.tensor(among))
        return {form: relative(e[0][is_in], e[-1][is_in]) for form, e in measured.items()} if is_in.any() else {}

    largest = seen.largest.amax(dim=(0, 2))
    return LinearEntry(
        weight=weight,
        group=group,
        in_features=matrix.shape[1],
        out_features=matrix.shape[0],
        input_scale=chosen.scales.input_scale,
        alpha=chosen.alpha,
        awq_power=chosen.awq_power,
        errors=errors((*VISUAL, *TEXT)),
        errors_visual=errors(VISUAL),
        errors_text=errors(TEXT),
        amax={kind: float(largest[code]) for code, kind in enumerate(TOKEN_KINDS) if int(seen.counts[code])},
        unseen_range=_unseen_range(seen, chosen.scales.smooth),
    )


def _unseen_range(seen: InputStatistics, smooth: Tensor) -> float:
    held, others = (float((seen.absmax((*VISUAL, *TEXT), part) / smooth).max()) for part in (True, False))
    return held / others if others > 0 else float(held > 0)


@contextmanager
def _watched(module: nn.Module, seen: dict[str, InputStatistics], record: Record) -> Iterator[None]:
    """Show the inputs of the first linear of each group to its statistics inside the block."""

    def hook(statistics: InputStatistics) -> Callable[[nn.Module, Any], None]:
        return lambda _, inputs: statistics.see(inputs[0].flatten(0, -2), record)

    handles = [
        module.get_submodule(name).register_forward_pre_hook(hook(statistics)) for name, statistics in seen.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _rounded(module: nn.Module, form: ErrorForm, scales: dict[str, InputScales]) -> Iterator[None]:
    """Let linears compute as a stored form inside the block; weights stay as they are and are rounded row by row."""
    linears = {name: module.get_submodule(name) for name in scales}
    for name, linear in linears.items():
        linear.forward = _rounded_forward(linear, form, scales[name])
    try:
        yield
    finally:
        for linear in linears.values():
            del linear.forward


def _rounded_forward(linear: Any, form: ErrorForm, scales: InputScales) -> Callable[[Tensor], Tensor]:
    def forward(inputs: Tensor) -> Tensor:
        rows = inputs.flatten(0, -2)
        parts = linear.weight.split(rows_at_once(linear.in_features))
        output = torch.cat([product(form, rows, part, scales) for part in parts], dim=1)
        output = output if linear.bias is None else output + linear.bias
        shaped: Tensor = output.unflatten(0, inputs.shape[:-1])
        return shaped

    return forward


def _spread(indices: list[int], count: int) -> list[int]:
    return [indices[i * len(indices) // min(count, len(indices))] for i in range(min(count, len(indices)))]


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(dim=-1, dtype=torch.float64)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.zeros(0, dtype=torch.float64)
