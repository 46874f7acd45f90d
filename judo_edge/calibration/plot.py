"""The plot of a calibration as SVG: what each part of the model loses in each form, and which linear layer is to blame.

Two panels over the same layers: errors of whole blocks as lines, errors of single linears as a map. Text only, no
plotting library; colours by Okabe and Ito, with a marker of its own for each form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from judo_edge.calibration.file import ERROR_FORMS, ErrorForm, LayerEntry, LinearEntry
from judo_edge.svg import FONT, GREY, RULE, svg_hint, svg_text

MAP_FORM: ErrorForm = "int8-static"
"""The form of the map: its errors differ most between linears."""
_COLOURS: dict[ErrorForm, str] = {"int8-channel": "#0072B2", "int8-static": "#D55E00", "int4-block": "#009E73"}
_LABELS: dict[ErrorForm, str] = {
    "int8-channel": "int8-channel (W8A16)",
    "int8-static": "int8-static (W8A8)",
    "int4-block": "int4-block (W4A16)",
}
_LEFT, _RIGHT, _TOP, _HEIGHT, _GAP, _ROW = 96, 24, 64, 300, 92, 18
_ORDER = ("qkv", "q_proj", "k_proj", "v_proj", "proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_WIDE = 660
"""Pixels that few layers are spread over."""


def svg_from_layers(layers: Sequence[LayerEntry], linears: Sequence[LinearEntry], title: str) -> str:
    """Return the plot as SVG text on a white ground; errors are relative and on a logarithmic axis."""
    places = _Places(len(layers))
    names = _linear_names(linears)
    height = _TOP + _HEIGHT + _GAP + _ROW * len(names) + 84
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {places.width} {height}' {FONT} font-size='12'>",
        f"<rect width='{places.width}' height='{height}' fill='#ffffff'/>",
        svg_text(_LEFT, 24, f"Relative output error of each part, all its linear layers in one form: {title}", size=15),
        *_legend(),
        *_panel(layers, places),
        *_map(layers, linears, names, places, _TOP + _HEIGHT + _GAP),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Places:
    """Where the layers stand across."""

    def __init__(self, count: int) -> None:
        self.step = max(14.0, _WIDE / max(1, count))
        self.width = round(_LEFT + self.step * count + _RIGHT)

    def x(self, index: int) -> float:
        return round(_LEFT + self.step * (index + 0.5), 2)


class _LogAxis:
    """From an error to a height or a shade, between the neighbouring steps of 1, 2 and 5."""

    def __init__(self, values: Sequence[float]) -> None:
        above = [value for value in values if value > 0] or [1e-3]
        steps = [step * 10.0**power for power in range(-9, 3) for step in (1, 2, 5)]
        low, high = min(above), max(above)
        first = max(step for step in steps if step <= low * 1.001 or step == steps[0])
        last = min(step for step in steps if step >= max(high, 2 * first) * 0.999 or step == steps[-1])
        self.low, self.high = math.log10(first), math.log10(last)
        inside = [step for step in steps if first * 0.999 <= step <= last * 1.001]
        decades = [step for step in inside if f"{step:e}".startswith("1")]
        self._ticks = inside if len(inside) <= 9 else decades

    def share(self, value: float) -> float:
        """Return 0 at the bottom, 1 at the top; zero and less lie at the bottom."""
        if value <= 0:
            return 0.0
        return min(1.0, max(0.0, (math.log10(value) - self.low) / (self.high - self.low)))

    def ticks(self) -> list[float]:
        """Return every step, or whole decades where those are too many."""
        return self._ticks


def _panel(layers: Sequence[LayerEntry], places: _Places) -> Iterator[str]:
    axis = _LogAxis([value for layer in layers for value in layer.output_errors.values()])
    right = _LEFT + places.step * len(layers)
    for tick in axis.ticks():
        y = _y(axis, tick)
        yield f"<line x1='{_LEFT}' y1='{y}' x2='{right}' y2='{y}' stroke='{RULE}'/>"
        yield svg_text(_LEFT - 8, y + 4, f"{100 * tick:g} %", anchor="end")
    middle = _TOP + _HEIGHT / 2
    label = "‖y_q − y‖ / ‖y‖ (logarithmic)"
    yield svg_text(22, middle, label, anchor="middle", more=f"transform='rotate(-90 22 {middle})'")
    for form in ERROR_FORMS:
        points = [(places.x(i), _y(axis, layer.output_errors.get(form, 0))) for i, layer in enumerate(layers)]
        path = " ".join(f"{x},{y}" for x, y in points)
        yield f"<polyline points='{path}' fill='none' stroke='{_COLOURS[form]}' stroke-width='1.5'/>"
        for layer, (x, y) in zip(layers, points, strict=True):
            error = layer.output_errors.get(form, 0)
            yield _marker(form, x, y, f"{layer.name}, {form}: {100 * error:.3g} %")
    yield from _names(layers, places, _TOP + _HEIGHT + 12)


def _map(
    layers: Sequence[LayerEntry], linears: Sequence[LinearEntry], names: Sequence[str], places: _Places, top: float
) -> Iterator[str]:
    axis = _LogAxis([linear.errors.get(MAP_FORM, 0) for linear in linears])
    columns = {layer.name: index for index, layer in enumerate(layers)}
    yield svg_text(_LEFT, top - 12, f"Relative error of each linear layer as {_LABELS[MAP_FORM]}", size=13)
    for row, name in enumerate(names):
        yield svg_text(_LEFT - 8, top + row * _ROW + 13, name, anchor="end")
    for linear in linears:
        layer, name = _split(linear.weight)
        if layer in columns:
            error = linear.errors.get(MAP_FORM, 0)
            x, y = places.x(columns[layer]) - places.step / 2, top + names.index(name) * _ROW
            box = f"x='{x + 0.5:.2f}' y='{y + 0.5}' width='{places.step - 1:.2f}' height='{_ROW - 1}'"
            hint = svg_hint(f"{linear.weight}: {100 * error:.3g} %")
            yield f"<rect {box} fill='{_shade(axis.share(error))}'>{hint}</rect>"
    yield from _scale(axis, top + len(names) * _ROW + 34)


def _scale(axis: _LogAxis, y: float) -> Iterator[str]:
    for step in range(40):
        yield f"<rect x='{_LEFT + 6 * step}' y='{y}' width='6' height='12' fill='{_shade((step + 0.5) / 40)}'/>"
    for tick in axis.ticks():
        yield svg_text(_LEFT + 240 * axis.share(tick), y + 28, f"{100 * tick:g} %", anchor="middle")


def _names(layers: Sequence[LayerEntry], places: _Places, y: float) -> Iterator[str]:
    for index, layer in enumerate(layers):
        x = places.x(index)
        label = escape(_short(layer.name))
        yield f"<text x='{x}' y='{y}' fill='{GREY}' text-anchor='end' transform='rotate(-60 {x} {y})'>{label}</text>"


def _legend() -> Iterator[str]:
    for index, form in enumerate(ERROR_FORMS):
        x = _LEFT + 190 * index
        yield _marker(form, x + 6, 44, form)
        yield svg_text(x + 18, 48, _LABELS[form])


def _marker(form: ErrorForm, x: float, y: float, hint: str) -> str:
    fill, title = f"fill='{_COLOURS[form]}'", svg_hint(hint)
    if form == "int8-channel":
        return f"<circle cx='{x}' cy='{y}' r='4' {fill}>{title}</circle>"
    if form == "int8-static":
        return f"<rect x='{x - 4:.2f}' y='{y - 4:.2f}' width='8' height='8' {fill}>{title}</rect>"
    path = f"M{x:.2f} {y - 5:.2f}l5 9h-10z"
    return f"<path d='{path}' {fill}>{title}</path>"


def _y(axis: _LogAxis, value: float) -> float:
    return round(_TOP + _HEIGHT * (1 - axis.share(value)), 2)


def _shade(share: float) -> str:
    """Return a colour from pale (0) to dark orange (1)."""
    pale, dark = (253, 240, 225), (140, 45, 4)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(pale, dark, strict=True))


def _split(weight: str) -> tuple[str, str]:
    """Return the block of a matrix and the short name of the linear in it."""
    parts = weight.removesuffix(".weight").split(".")
    if parts[0] == "lm_head":
        return "lm_head", "lm_head"
    count = 2 if parts[:2] == ["visual", "merger"] else 3
    return ".".join(parts[:count]), parts[-1] if count == 3 else f"merger.{parts[-1]}"


def _linear_names(linears: Sequence[LinearEntry]) -> list[str]:
    names = dict.fromkeys(_split(linear.weight)[1] for linear in linears)
    return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


def _short(name: str) -> str:
    return name.replace("visual.blocks.", "vision ").replace("visual.", "").replace("model.layers.", "layer ")
