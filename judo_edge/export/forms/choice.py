"""Which form a linear layer takes: what the recipe asks for, unless its shape or its calibrated error forbids it.

Decides from names, shapes and measured errors; reads no weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from judo_edge.calibration import Calibration, LinearCalibration
from judo_edge.errors import ConfigError
from judo_edge.export.graphs import LinearUse
from judo_edge.export.quantize.compensate import MAX_FEATURES
from judo_edge.export.recipe import ErrorLimit, LinearForm, Recipe

_CALIBRATE = "run judo-edge calibrate on your own pairs and pass its folder with --calibration"
_COMPENSATED = ("int8-channel", "int4-block")
"""Forms that are rounded with second moments where they are known."""
_MIN_BLOCK = 16


@dataclass(frozen=True)
class Choice:
    """The form of one linear layer, and why it is not simply what the recipe asks for."""

    form: LinearForm
    block: int = 0
    """Inputs that share a scale; 0 for forms without blocks."""
    reasons: tuple[str, ...] = ()
    error: float | None = None
    """Calibrated relative output error of the form."""
    known: LinearCalibration | None = None
    has_gram: bool = False
    """Whether it is rounded with the second moments of its inputs."""

    @property
    def reason(self) -> str:
        """Return the reasons on one line."""
        return "; ".join(self.reasons)


def choose(recipe: Recipe, graph: str, linear: LinearUse, calibration: Calibration | None) -> Choice:
    """Choose the form of a linear layer of the graph `vision` or of one of the decoder.

    Raises ConfigError when the recipe needs a calibration of this layer and there is none.
    """
    wanted = recipe.form_of(graph, linear)
    if wanted == "float":
        return Choice("float", reasons=("keep_float",) if recipe.is_kept(linear.weight) else ())
    known = calibration.linear(linear.weight) if calibration else None
    _check_calibrated(recipe, wanted, linear, calibration, known)
    choice = _fitted(recipe, linear, _within_static(recipe, Choice(wanted, known=known)))
    choice = _within_sensitive(recipe, choice)
    return _with_gram(linear, choice, calibration)


def _check_calibrated(
    recipe: Recipe,
    wanted: LinearForm,
    linear: LinearUse,
    calibration: Calibration | None,
    known: LinearCalibration | None,
) -> None:
    if recipe.sensitive and calibration is None:
        raise ConfigError(f"recipe {recipe.name}: [sensitive] without a calibration", "measured errors", _CALIBRATE)
    if wanted == "int8-static" and known is None:
        found = f"recipe {recipe.name} asks for int8-static, but {linear.weight} has no calibrated range"
        raise ConfigError(found, "a calibration that covers it", _CALIBRATE)


def _within_static(recipe: Recipe, choice: Choice) -> Choice:
    """Fall back to int8-channel where static activations cost too much."""
    if choice.form != "int8-static" or not (reason := _excess(recipe.static, choice)):
        return choice
    return replace(choice, form="int8-channel", reasons=(*choice.reasons, reason))


def _within_sensitive(recipe: Recipe, choice: Choice) -> Choice:
    """Fall back to float where the form that was chosen costs too much; record its error otherwise."""
    if reason := _excess(recipe.sensitive, choice):
        return Choice("float", reasons=(*choice.reasons, reason))
    return replace(choice, error=_error_of(choice))


def _fitted(recipe: Recipe, linear: LinearUse, choice: Choice) -> Choice:
    """Give blocks their size; TensorRT reads int4 in whole blocks and pairs of outputs, so take a smaller one there."""
    table = {"int8-block": recipe.int8, "int4-block": recipe.int4}.get(choice.form)
    if table is None:
        return choice
    block: int = table.block
    if recipe.engine == "onnxruntime":
        return replace(choice, block=block)
    while linear.in_features % block and block > _MIN_BLOCK:
        block //= 2
    if linear.in_features % block or linear.out_features % 2:
        reason = f"{linear.in_features} x {linear.out_features} does not fit int4 blocks"
        return replace(choice, form="int8-channel", reasons=(*choice.reasons, reason))
    return replace(choice, block=block)


def _with_gram(linear: LinearUse, choice: Choice, calibration: Calibration | None) -> Choice:
    """Use second moments where the calibration stored them and they are not too large."""
    stored = calibration is not None and calibration.file.provenance.settings.gram
    if not stored or choice.known is None or choice.form not in _COMPENSATED:
        return choice
    limit = min(MAX_FEATURES, calibration.file.provenance.settings.gram_max_features) if calibration else 0
    if linear.in_features > limit:
        reason = f"rounded to nearest: {linear.in_features} inputs, second moments up to {limit}"
        return replace(choice, reasons=(*choice.reasons, reason))
    return replace(choice, has_gram=True, reasons=(*choice.reasons, "rounded with second moments"))


def _excess(limit: ErrorLimit | None, choice: Choice) -> str:
    """Say that a form exceeds a limit; empty when it does not, or was not measured."""
    error = _error_of(choice)
    if limit is None or error is None or error <= limit.max_error:
        return ""
    return f"{choice.form} has relative error {error:.4g}, above {limit.max_error:g}"


def _error_of(choice: Choice) -> float | None:
    errors = dict(choice.known.errors) if choice.known else {}
    return {str(form): error for form, error in errors.items()}.get(choice.form)
