"""The plot of a bench as SVG: the mean time of every stage of each bundle with drafts and without, and its limit.

Marks show the latencies at p50, p90, p99 and the largest. Text only, no plotting library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from judo_edge.bench.report import Report, Row
from judo_edge.bench.statistics import Summary
from judo_edge.svg import FONT, GREY, INK, PALETTE, RULE, svg_hint, svg_text

_LEFT, _WIDE, _RIGHT, _TOP, _BAR, _STEP = 250, 620, 60, 96, 18, 26
_COLUMNS = 5
"""Entries in a row of the legend."""
_ENDS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


class _Bar(NamedTuple):
    """One bar: a label, and parts in milliseconds."""

    label: str
    parts: Mapping[str, float]
    marks: Mapping[str, float] = {}
    """Points on the same axis, such as p99."""


def svg_from_report(report: Report) -> str:
    """Return the plot on a white ground; every element says its number when pointed at."""
    bars = list(_bars(report))
    names = list(dict.fromkeys(name for bar in bars for name in bar.parts))
    rows_of_legend = math.ceil(len(names) / _COLUMNS)
    top = _TOP + 20 * (rows_of_legend - 1)
    width, height = _LEFT + _WIDE + _RIGHT, top + _STEP * len(bars) + 56
    scale = _Scale(max(max(sum(bar.parts.values()), *bar.marks.values(), 1e-9) for bar in bars))
    setting = report.setting
    title = f"{setting.workload}, {setting.source}: milliseconds per moment of {setting.cameras} photo(s)"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {FONT} font-size='12'>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        svg_text(16, 24, title, size=15),
        svg_text(16, 42, "bars: mean of each stage; marks on them: p50, p90, p99 and the largest"),
        *_legend(names),
        *_axis(scale, top, top + _STEP * len(bars)),
        *(piece for row, bar in enumerate(bars) for piece in _drawn(bar, names, scale, top + _STEP * row)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Scale:
    """From milliseconds to places across; ends at a round number."""

    def __init__(self, largest: float) -> None:
        power = 10.0 ** math.floor(math.log10(largest))
        self.end = next(step * power for step in _ENDS if step * power >= largest)

    def x(self, value: float) -> float:
        return round(_LEFT + _WIDE * value / self.end, 2)

    def ticks(self) -> list[float]:
        return [self.end * part / 5 for part in range(6)]


def _bars(report: Report) -> Iterator[_Bar]:
    for row in report.rows:
        yield from _bars_of(row, report.setting.cameras)
    for name, peer in report.peers.items():
        yield _Bar(name, {"rival": peer.mean}, _marks(peer))


def _bars_of(row: Row, cameras: int) -> Iterator[_Bar]:
    """Yield a bundle's bars; stages are of one part, bars of what was captured together."""
    drafted = {name: cameras * stage.mean for name, stage in row.stages.items()}
    yield _Bar(row.bundle, drafted, _marks(row.latency))
    if row.greedy is not None:
        greedy = {name: cameras * stage.mean for name, stage in row.greedy_stages.items()}
        yield _Bar(f"{row.bundle}, no drafts", greedy, _marks(row.greedy))
    if row.limit is not None:
        yield _Bar(f"{row.bundle}, limit", {"limit": row.limit.mean}, _marks(row.limit))


def _marks(summary: Summary) -> dict[str, float]:
    return {"p50": summary.p50, "p90": summary.p90, "p99": summary.p99, "max": summary.max}


def _drawn(bar: _Bar, names: Sequence[str], scale: _Scale, y: float) -> Iterator[str]:
    yield svg_text(_LEFT - 8, y + 13, bar.label if len(bar.label) < 38 else f"{bar.label[:36]}...", anchor="end")
    begin = 0.0
    for name in (name for name in names if bar.parts.get(name, 0) > 0):
        x, end = scale.x(begin), scale.x(begin + bar.parts[name])
        says = svg_hint(f"{bar.label}, {name}: {bar.parts[name]:.3g} ms")
        place = f"x='{x}' y='{y}' width='{end - x:.2f}' height='{_BAR}'"
        yield f"<rect {place} fill='{_colour(names, name)}'>{says}</rect>"
        begin += bar.parts[name]
    for name, value in bar.marks.items():
        says, x = svg_hint(f"{bar.label}, {name}: {value:.3g} ms"), scale.x(value)
        line = f"d='M{x} {y - 2}v{_BAR + 4}'"
        yield f"<path {line} stroke='#ffffff' stroke-width='4'/>"
        yield f"<path {line} stroke='{INK}' stroke-width='1.5'>{says}</path>"


def _axis(scale: _Scale, top: float, bottom: float) -> Iterator[str]:
    for tick in scale.ticks():
        x = scale.x(tick)
        yield f"<line x1='{x}' y1='{top - 6}' x2='{x}' y2='{bottom}' stroke='{RULE}'/>"
        yield svg_text(x, bottom + 18, f"{tick:g}", anchor="middle")
    yield svg_text(_LEFT + _WIDE / 2, bottom + 38, "ms", anchor="middle")


def _legend(names: Sequence[str]) -> Iterator[str]:
    for index, name in enumerate(names):
        x, y = 16 + 180 * (index % _COLUMNS), 56 + 20 * (index // _COLUMNS)
        yield f"<rect x='{x}' y='{y}' width='12' height='12' fill='{_colour(names, name)}'/>"
        yield svg_text(x + 18, y + 11, name)


def _colour(names: Sequence[str], name: str) -> str:
    """Return a colour of its own while there are enough; grey for what no stage counts."""
    return GREY if name == "rest" else PALETTE[names.index(name) % len(PALETTE)]
