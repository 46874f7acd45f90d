"""Gates: a file names every one, and what was not measured never passes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from judo_edge.calibration.gates import (
    AtLeast,
    AtMost,
    Figure,
    Gates,
    failed_gates,
    gate_results,
    load_gates,
    shipped_gates,
)
from judo_edge.errors import ConfigError


def perfect() -> dict[str, Figure]:
    """Return figures that keep every shipped limit exactly."""
    return {
        name: Figure(gate.at_least if isinstance(gate, AtLeast) else gate.at_most, gate.items)
        for name, gate in load_gates().named()
    }


def failed(figures: dict[str, Figure]) -> tuple[str, ...]:
    return failed_gates(gate_results(load_gates(), figures))


def test_limits_themselves_pass() -> None:
    assert failed(perfect()) == ()


@pytest.mark.parametrize("name", list(Gates.model_fields))
def test_every_gate_fails_alone_beyond_its_limit(name: str) -> None:
    gate = getattr(load_gates(), name)
    worse = gate.at_least - 1e-6 if isinstance(gate, AtLeast) else gate.at_most + 1e-6
    assert failed(perfect() | {name: Figure(worse, gate.items)}) == (name,)


@pytest.mark.parametrize("name", list(Gates.model_fields))
def test_too_few_items_fail_whatever_was_measured(name: str) -> None:
    gate = getattr(load_gates(), name)
    best = 1.0 if isinstance(gate, AtLeast) else 0.0
    figures = perfect() | {name: Figure(best, gate.items - 1)}
    (result,) = (item for item in gate_results(load_gates(), figures) if not item.passed)
    assert result.name == name and result.note == f"not measured: {gate.items - 1} of at least {gate.items}"


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_fails(value: float | None) -> None:
    for gate in ("cell_f1", "clear_flips"):
        results = gate_results(load_gates(), perfect() | {gate: Figure(value, 1000)})
        (result,) = (item for item in results if not item.passed)
        assert result.name == gate and result.measured is None and result.note.startswith("not measured")


def test_missing_figures_fail() -> None:
    assert failed({}) == tuple(Gates.model_fields)


def test_a_file_must_name_every_gate_and_no_other(tmp_path: Path) -> None:
    path, text = tmp_path / "gates.toml", shipped_gates().read_text()
    path.write_text(text.replace("clear_flips =", "clear_flip ="))
    with pytest.raises(ConfigError, match="clear_flip"):
        load_gates(path)
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("recall_drop")))
    with pytest.raises(ConfigError, match="'recall_drop' is missing"):
        load_gates(path)
    path.write_text(text.replace("cell_f1 = { at_least", "cell_f1 = { at_most"))
    with pytest.raises(ConfigError, match="cell_f1"):
        load_gates(path)
    path.write_text(text)
    assert load_gates(path) == load_gates()


@pytest.mark.parametrize("items", [0, -1])
def test_a_gate_wants_at_least_one_item(items: int) -> None:
    with pytest.raises(ValueError, match="items"):
        AtMost(at_most=1.0, items=items)


def test_every_shipped_limit_gives_its_reason() -> None:
    lines = shipped_gates().read_text().splitlines()
    for number, line in enumerate(lines):
        if "= {" in line:
            assert lines[number - 1].startswith("# "), line
