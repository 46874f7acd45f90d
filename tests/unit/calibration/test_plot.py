"""The plot is well-formed, names every layer, and puts larger errors higher."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from judo_edge.calibration.file import ERROR_FORMS, ErrorForm, LayerEntry, LinearEntry
from judo_edge.calibration.plot import svg_from_layers

SVG = "{http://www.w3.org/2000/svg}"


def errors(value: float) -> dict[ErrorForm, float]:
    return {form: value * (i + 1) for i, form in enumerate(ERROR_FORMS)}


def layer(name: str, value: float) -> LayerEntry:
    return LayerEntry(name=name, output_errors=errors(value), update_errors={})


def linear(weight: str, value: float) -> LinearEntry:
    return LinearEntry(
        weight=weight, group=weight, in_features=4, out_features=4, input_scale=1.0, alpha=None, awq_power=None,
        errors=errors(value), errors_visual={}, errors_text={}, amax={}, unseen_range=1.0,
    )  # fmt: skip


LAYERS = [
    layer("visual.blocks.0", 0.001),
    layer("visual.merger", 0.002),
    layer("model.layers.0", 0.03),
    layer("lm_head", 0),
]
LINEARS = [
    linear("visual.blocks.0.attn.qkv.weight", 0.004),
    linear("visual.merger.mlp.2.weight", 0.002),
    linear("model.layers.0.mlp.down_proj.weight", 0.05),
    linear("lm_head.weight", 0.0),
]


@pytest.fixture
def root() -> ElementTree.Element:
    return ElementTree.fromstring(svg_from_layers(LAYERS, LINEARS, "a <b> & c"))


def texts(root: ElementTree.Element) -> list[str]:
    return [str(item.text) for item in root.iter(f"{SVG}text")]


def test_axes_layers_and_linears_are_named(root: ElementTree.Element) -> None:
    shown = texts(root)
    for wanted in ("vision 0", "merger", "layer 0", "lm_head", "qkv", "down_proj", "merger.2", "10 %", "0.1 %"):
        assert wanted in shown
    assert any("a <b> & c" in text for text in shown) and any("logarithmic" in text for text in shown)


def test_larger_errors_lie_higher_and_none_leave_the_panel(root: ElementTree.Element) -> None:
    lines = [item.attrib["points"] for item in root.iter(f"{SVG}polyline")]
    assert len(lines) == len(ERROR_FORMS)
    for points in lines:
        heights = [float(point.split(",")[1]) for point in points.split()]
        assert heights[2] < heights[1] < heights[0] <= heights[3] == 364 and min(heights) >= 64


def test_every_mark_says_its_number(root: ElementTree.Element) -> None:
    hints = [str(item.text) for item in root.iter(f"{SVG}title")]
    assert "model.layers.0, int8-static: 6 %" in hints
    assert "model.layers.0.mlp.down_proj.weight: 10 %" in hints


def test_everything_lies_inside_the_picture_for_a_large_model() -> None:
    layers = [layer(f"visual.blocks.{i}", 0.01) for i in range(32)] + [
        layer(f"model.layers.{i}", 0.1) for i in range(28)
    ]
    root = ElementTree.fromstring(svg_from_layers(layers, LINEARS, "7B"))
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
    for item in root.iter():
        if "x" in item.attrib:
            assert 0 <= float(item.attrib["x"]) <= width and 0 <= float(item.attrib["y"]) <= height
