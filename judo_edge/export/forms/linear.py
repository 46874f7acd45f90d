"""From the choice of a form to both its sides: the nodes in the graph and the integers in the file."""

from __future__ import annotations

from functools import partial

from judo_edge.calibration import Calibration
from judo_edge.export.forms.choice import Choice
from judo_edge.export.forms.quantized import DequantizedForm, Gram, NBitsForm, QuantizedForm
from judo_edge.export.graphs import LinearUse, WeightUse
from judo_edge.export.lora import MergedWeights
from judo_edge.export.quantize import Grid, LinearRewriter, Smoothing, smoothing_from_vector
from judo_edge.export.recipe import Recipe


def quantized_form(
    rewriter: LinearRewriter,
    weights: MergedWeights,
    use: WeightUse,
    linear: LinearUse,
    choice: Choice,
    recipe: Recipe,
    calibration: Calibration | None,
) -> QuantizedForm:
    """Let the graph read a layer in its chosen form, and return that form; `choice` is not float.

    Raises ConfigError when the calibration's vectors do not fit the graph's type.
    """
    grid = _grid(choice, use, recipe)
    smoothing = _smoothing(choice, use)
    factor = smoothing.factor if smoothing else None
    gram: Gram | None = None
    if choice.has_gram and calibration is not None:
        gram = partial(calibration.gram, linear.weight)
    label = f"{choice.form}{choice.block or ''}"
    if choice.block and recipe.engine == "onnxruntime":
        rewriter.use_nbits(linear, grid, _accuracy_level(choice, recipe), smoothing)
        return NBitsForm(weights, linear, grid, label, factor, gram)
    scale = choice.known.input_scale if choice.known and choice.form == "int8-static" else None
    rewriter.use_dequantized(linear, grid, smoothing, scale)
    return DequantizedForm(weights, linear, grid, label, factor, gram)


def _grid(choice: Choice, use: WeightUse, recipe: Recipe) -> Grid:
    """Return the grid of a form; int8 blocks always span their largest weight."""
    is_searched = recipe.scales == "least-squares" and choice.form != "int8-block"
    return Grid(4 if choice.form == "int4-block" else 8, choice.block, use.dtype, is_searched)


def _smoothing(choice: Choice, use: WeightUse) -> Smoothing | None:
    """Return the vector that the form was calibrated with; weight-only int8 needs none."""
    if choice.known is None or choice.form not in ("int8-static", "int4-block"):
        return None
    vector = choice.known.smooth if choice.form == "int8-static" else choice.known.awq
    return smoothing_from_vector(vector, use.dtype, use.name)


def _accuracy_level(choice: Choice, recipe: Recipe) -> int:
    table = recipe.int4 if choice.form == "int4-block" else recipe.int8
    return table.accuracy_level if table else 4
