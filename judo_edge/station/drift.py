"""Drift: whether the scores of good parts, and how far their photos lie from the references, are still what they were.

A calibrated decision keeps which photos it was made from, and not their scores. So the base is the first window of good
parts after a version of a recipe was prepared, kept on the disk; every later window is compared with it. Windows do not
overlap: each good part is looked at once, so looking often does not add up to an alarm. The promise per window: with no
drift the alarm goes off with a probability of at most `DriftTable.alarm`, shared equally between the signs. It holds
for parts whose order says nothing; a line whose neighbouring parts resemble each other has more false alarms.
A condition stays until a whole window agrees with the base again, or another version of the recipe is prepared.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from judo_edge.core import Decision
from judo_edge.errors import JudoEdgeError
from judo_edge.station.config import DriftTable
from judo_edge.station.driftbase import DriftBase, base_from_file, write_base
from judo_edge.station.kolmogorov import compare
from judo_edge.station.results import Code, Recipe, Result, Severity

SIGNS = ("score", "feature_distance")
"""`score` is the result's; others are names of its evidence."""
SAVE_EACH = 20
"""Good parts after which a base that is still being collected is written down."""

_log = logging.getLogger(__name__)
Tell = Callable[[str, Severity, str], None]
"""Raise or change a condition: name, severity, text; an empty text clears it."""


class Drift:
    """Watches the results of all recipes: a `Watcher` of the hub."""

    def __init__(self, table: DriftTable, folder: Path, tell: Tell) -> None:
        """Name the folder of the bases."""
        self._table, self._folder, self._tell = table, folder, tell
        self._series: dict[str, _Series] = {}

    async def on_result(self, result: Result, recipe: Recipe | None) -> None:
        """Look at one result; any but a good part of the line counts for nothing."""
        values = signs_of_good_part(result)
        if recipe is None or values is None or result.internal_recipe_id != recipe.internal_id:
            return
        series = await self._series_of(recipe)
        if not series.is_complete:
            await self._collect(series, values)
            return
        series.window.append(values)
        if len(series.window) >= self._table.window:
            self._judge(recipe.external_id, series)

    async def _series_of(self, recipe: Recipe) -> _Series:
        """Return the series of a version; the condition of an earlier version ends with it."""
        series = self._series.get(recipe.external_id)
        if series is None or series.base.internal_id != recipe.internal_id:
            path = self._folder / f"{recipe.internal_id}.json"
            base = await asyncio.to_thread(base_from_file, path, recipe.internal_id)
            if series is not None:
                self._tell(_name(recipe.external_id), Severity.WARNING, "")
            series = self._series[recipe.external_id] = _Series(path, base, self._table.window)
        return series

    async def _collect(self, series: _Series, values: dict[str, float]) -> None:
        series.base = series.base.with_values(values)
        if series.is_complete or len(series.base.values) % SAVE_EACH == 0:
            try:
                await asyncio.to_thread(write_base, series.path, series.base)
            except JudoEdgeError as error:  # a full disk; the base is then collected anew after a restart
                _log.warning("%s", error)

    def _judge(self, external_id: str, series: _Series) -> None:
        """Compare a full window with the base, tell what came of it, and begin the next."""
        base, window = series.base.values, tuple(series.window)
        series.window.clear()
        text = difference(base, window, self._table.alarm, series.base.began)
        self._tell(_name(external_id), Severity.WARNING, text)


class _Series:
    """One version of a recipe: its base and the window that is being filled."""

    def __init__(self, path: Path, base: DriftBase, window: int) -> None:
        self.path, self._size = path, window
        self.base = base.shortened(window)
        self.window: list[dict[str, float]] = []

    @property
    def is_complete(self) -> bool:
        """Tell whether the base is as long as a window."""
        return len(self.base.values) >= self._size


def signs_of_good_part(result: Result) -> dict[str, float] | None:
    """Return the signs of a result by name; None unless it is an inspected good part of the line with a score."""
    is_good = result.decision is Decision.OK and result.code is Code.INSPECTED and not result.is_simulated
    if not is_good or result.score is None:
        return None
    return {"score": result.score, **{name: result.evidence[name] for name in SIGNS if name in result.evidence}}


def difference(
    base: tuple[dict[str, float], ...], window: tuple[dict[str, float], ...], alarm: float, began: str = ""
) -> str:
    """Say in which signs two series of equal length differ, with numbers; empty when in none.

    `alarm` is the probability of a false alarm over all signs that both have throughout: each sign gets an
    equal share (Bonferroni).
    """
    signs = [name for name in SIGNS if all(name in values for values in (*base, *window))]
    told = []
    for name in signs:
        then, now = (np.array([values[name] for values in series]) for series in (base, window))
        found = compare(then, now)
        if found.probability < alarm / len(signs):
            told.append(
                f"{name} of the latest {len(now)} good parts: median {np.median(now):.4g}, was {np.median(then):.4g} "
                f"in the first {len(then)} from {began[:16]}; Kolmogorov-Smirnov distance {found.distance:.3f}, "
                f"probability without drift {found.probability:.1e} (alarm below {alarm / len(signs):.1e})"
            )
    return "; ".join(told)


def _name(external_id: str) -> str:
    return f"drift.{external_id}"
