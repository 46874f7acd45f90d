"""Acceptance gates: the limits that a bundle has to keep against its reference, from a TOML file.

Knows names, limits and how few items are too few; measures nothing. A figure that was not measured, or from too few
items, fails its gate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

import judo_edge
from judo_edge.config import Frozen, model_from_toml

GATES_FILE = "gates.toml"


class AtLeast(Frozen):
    """A figure must reach the limit."""

    at_least: float
    items: Annotated[int, Field(ge=1)]
    """Fewer measured items (or rows, where the gate says so) mean nothing."""

    @property
    def text(self) -> str:
        """Return the limit for a reader."""
        return f">= {self.at_least:g}"

    def allows(self, value: float) -> bool:
        """Tell whether a figure keeps the limit."""
        return value >= self.at_least


class AtMost(Frozen):
    """A figure must not exceed the limit."""

    at_most: float
    items: Annotated[int, Field(ge=1)]
    """Fewer measured items (or rows, where the gate says so) mean nothing."""

    @property
    def text(self) -> str:
        """Return the limit for a reader."""
        return f"<= {self.at_most:g}"

    def allows(self, value: float) -> bool:
        """Tell whether a figure keeps the limit."""
        return value <= self.at_most


class Gates(Frozen):
    """All gates; a file names every one, so that none is left out by a typing error.

    The bundle under test is compared with its reference on the same items; margins and logits are in logits.
    """

    vision_cosine_min: AtLeast
    """Smallest cosine of any visual row with the reference's row in the same place."""
    vision_error_max: AtMost
    """Largest distance of a visual row from the reference's, as a share of that row's norm."""
    logit_difference_mean: AtMost
    """Mean absolute difference of logits along the reference's reply."""
    top1_agreement: AtLeast
    """Share of the reply's places with the same best token, near-ties of the reference left out."""
    mask_margin_drift_median: AtMost
    """Median absolute change of the margin at the first mask token."""
    mask_margin_drift_max: AtMost
    """Largest absolute change of that margin."""
    answer_margin_drift_median: AtMost
    """Median absolute change of the margin at the answer's letter."""
    answer_margin_drift_max: AtMost
    """Largest absolute change of that margin."""
    reply_agreement: AtLeast
    """Share of items with the same text."""
    mask_agreement: AtLeast
    """Share of items with the same mask."""
    cell_f1: AtLeast
    """F1 over all cells of the bundle's masks against the reference's; items are those where either marks a cell."""
    tolerant_cell_f1: AtLeast
    """The same, where a cell one step away counts as hit."""
    invalid_rise: AtMost
    """Share of invalid replies, less that of the reference."""
    flips_good_to_nok: AtMost
    """Share of the reference's OK items that are no longer OK."""
    flips_defect_to_ok: AtMost
    """Share of the reference's NOK items that became OK."""
    clear_flips: AtMost
    """Share of items with another decision, among those that the reference decides by a clear margin."""
    recall_drop: AtMost
    """Recall of the reference less that of the bundle, on the labels."""
    specificity_drop: AtMost
    """Specificity of the reference less that of the bundle, on the labels."""

    def named(self) -> Iterator[tuple[str, AtLeast | AtMost]]:
        """Yield every gate with its name, in order."""
        for name in type(self).model_fields:
            yield name, getattr(self, name)


@dataclass(frozen=True)
class Figure:
    """A measured figure with its interval of 95 %, where one makes sense."""

    value: float | None
    """None when the items cannot define it; may be infinite or not a number when the bundle computes such."""
    count: int
    """From how many items (rows for the vision figures, places for `top1_agreement`)."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class GateResult:
    """One gate, asked."""

    name: str
    limit: str
    items: int
    """How many the gate wants at least."""
    measured: float | None
    """None when it was not measured."""
    count: int
    passed: bool
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Why the figure does not count; empty when it does."""


def load_gates(path: Path | None = None) -> Gates:
    """Read a gates file, by default the shipped one; ConfigError names the key at fault."""
    return model_from_toml(Gates, path or shipped_gates())


def shipped_gates() -> Path:
    """Return the shipped gates: inside the installed package, or `calibration/` of a source checkout."""
    package = Path(judo_edge.__file__).parent
    installed = package / "_calibration" / GATES_FILE
    return installed if installed.is_file() else package.parent / "calibration" / GATES_FILE


def gate_results(gates: Gates, figures: Mapping[str, Figure]) -> tuple[GateResult, ...]:
    """Ask every gate; a gate whose figure is missing, undefined or from too few items fails as not measured."""
    missing = Figure(None, 0)
    return tuple(_result(name, gate, figures.get(name, missing)) for name, gate in gates.named())


def failed_gates(results: tuple[GateResult, ...]) -> tuple[str, ...]:
    """Return the names of the gates that failed."""
    return tuple(result.name for result in results if not result.passed)


def _result(name: str, gate: AtLeast | AtMost, figure: Figure) -> GateResult:
    note = _note(gate, figure)
    value = figure.value if figure.value is not None and math.isfinite(figure.value) else None
    passed = not note and value is not None and gate.allows(value)
    return GateResult(name, gate.text, gate.items, value, figure.count, passed, figure.low, figure.high, note)


def _note(gate: AtLeast | AtMost, figure: Figure) -> str:
    if figure.value is None:
        return "not measured: the items cannot define it"
    if not math.isfinite(figure.value):
        return "not measured: the bundle computed a value that is not finite"
    return f"not measured: {figure.count} of at least {gate.items}" if figure.count < gate.items else ""
