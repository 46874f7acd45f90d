"""What the manifest says of every tensor: its form, where it lies, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from judo_edge.bundle import TensorDecision
from judo_edge.export.forms.choice import Choice
from judo_edge.export.graphs import WeightUse
from judo_edge.export.lora import MergedWeights
from judo_edge.export.recipe import Recipe


def decision_of(
    weights: MergedWeights, use: WeightUse, form: str, file: str, recipe: Recipe, choice: Choice | None = None
) -> TensorDecision:
    """Record the form of one initializer or table that lies in `file`."""
    tensor = weights.checkpoint.tensor(use.tensor)
    kept = "keep_float" if recipe.is_kept(use.name) else ""
    reasons = [f"shares {use.tensor}" if use.tensor != use.name else "", choice.reason if choice else kept]
    return TensorDecision(
        form=form,
        stored_in=file,
        dtype=tensor.dtype,
        adapters=weights.adapters_of(use.tensor),
        reason="; ".join(filter(None, reasons)),
        error=choice.error if choice else None,
    )


def all_decisions(
    graphs: Iterable[Mapping[str, TensorDecision]], table: Mapping[str, TensorDecision], weights: MergedWeights
) -> dict[str, TensorDecision]:
    """Join the decisions of graphs and table, sorted by name, and add every tensor of the checkpoint left out.

    A tensor that several graphs hold (a norm before each part of the head, a head in parts) lists all their files.
    """
    decisions: dict[str, TensorDecision] = {}
    for group in graphs:
        for name, decision in group.items():
            decisions[name] = _joined(decisions[name], decision) if name in decisions else decision
    decisions |= table
    for name, tensor in weights.checkpoint.tensors.items():
        if name not in decisions:
            decisions[name] = TensorDecision(form="unused", dtype=tensor.dtype, reason="no graph reads it")
    return dict(sorted(decisions.items()))


def _joined(first: TensorDecision, second: TensorDecision) -> TensorDecision:
    return first.model_copy(update={"stored_in": f"{first.stored_in}, {second.stored_in}"})
