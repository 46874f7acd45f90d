"""The choice of a form: what the recipe says, what shapes forbid, what measured errors forbid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from judo_edge.calibration import Calibration
from judo_edge.errors import ConfigError
from judo_edge.export.checkpoint import open_checkpoint
from judo_edge.export.forms import choose
from judo_edge.export.graphs import LinearUse
from judo_edge.export.lora import MergedWeights
from judo_edge.export.recipe import Recipe, load_recipe
from tests.calibrations import ERRORS, made_up_calibration
from tests.tiny import save_tiny_checkpoint

LAYER = "model.layers.0.mlp."


def linear(name: str, width: int = 256, count: int = 64) -> LinearUse:
    return LinearUse(name.removesuffix(".weight"), name, None, name, width, count)


UP, DOWN, WIDE = (linear(f"{LAYER}{name}_proj.weight") for name in ("up", "down", "gate"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> MergedWeights:
    return MergedWeights(open_checkpoint(save_tiny_checkpoint(tmp_path_factory.mktemp("ck"))))


def calibrated(folder: Path, weights: MergedWeights, **options: Any) -> Calibration:
    errors = {DOWN.weight: {"int8-static": 0.31, "int4-block": 0.25}}
    return made_up_calibration(folder / "cal", weights, [UP, DOWN], errors, **options)


def changed(name: str, **changes: Any) -> Recipe:
    return Recipe.model_validate({**load_recipe(name).model_dump(), **changes})


def test_static_needs_a_calibration_of_the_layer(tmp_path: Path, weights: MergedWeights) -> None:
    recipe = load_recipe("workstation-w8a8")
    with pytest.raises(ConfigError, match=r"up_proj\.weight has no calibrated range; .*judo-edge calibrate"):
        choose(recipe, "decoder", UP, None)
    with pytest.raises(ConfigError, match=r"gate_proj\.weight has no calibrated range"):
        choose(recipe, "decoder", WIDE, calibrated(tmp_path, weights))


def test_layer_above_the_static_limit_keeps_float_activations(tmp_path: Path, weights: MergedWeights) -> None:
    recipe, calibration = load_recipe("workstation-w8a8"), calibrated(tmp_path, weights)
    up, down = (choose(recipe, "decoder", item, calibration) for item in (UP, DOWN))
    assert (up.form, up.reason, up.error) == ("int8-static", "", ERRORS["int8-static"])
    assert (down.form, down.error) == ("int8-channel", 0.01)
    assert down.reason == "int8-static has relative error 0.31, above 0.02"


def test_sensitive_layer_stays_float(tmp_path: Path, weights: MergedWeights) -> None:
    recipe = changed("workstation-int4", sensitive={"max_error": 0.2})
    calibration = calibrated(tmp_path, weights)
    up, down = (choose(recipe, "decoder", item, calibration) for item in (UP, DOWN))
    assert (up.form, up.block, up.error) == ("int4-block", 128, 0.08)
    assert (down.form, down.reason) == ("float", "int4-block has relative error 0.25, above 0.2")
    with pytest.raises(ConfigError, match=r"\[sensitive\] without a calibration"):
        choose(recipe, "decoder", UP, None)


def test_both_limits_are_asked_in_turn(tmp_path: Path, weights: MergedWeights) -> None:
    recipe = changed("workstation-w8a8", sensitive={"max_error": 0.005})
    down = choose(recipe, "decoder", DOWN, calibrated(tmp_path, weights))
    assert down.form == "float" and down.reason == (
        "int8-static has relative error 0.31, above 0.02; int8-channel has relative error 0.01, above 0.005"
    )


@pytest.mark.parametrize(
    ("width", "count", "form", "block"),
    [
        (256, 64, "int4-block", 128),
        (704, 64, "int4-block", 64),
        (48, 8, "int4-block", 16),
        (44, 8, "int8-channel", 0),
        (128, 7, "int8-channel", 0),
    ],
)
def test_tensorrt_takes_whole_blocks_of_even_outputs(width: int, count: int, form: str, block: int) -> None:
    item = linear(f"{LAYER}up_proj.weight", width, count)
    choice = choose(load_recipe("workstation-int4"), "decoder", item, None)
    assert (choice.form, choice.block) == (form, block)
    assert choice.reason == ("" if form == "int4-block" else f"{width} x {count} does not fit int4 blocks")
    padded = choose(load_recipe("cpu-int4"), "decoder", item, None)
    assert (padded.form, padded.block, padded.reason) == ("int4-block", 32, "")


def test_second_moments_are_used_up_to_a_size(tmp_path: Path, weights: MergedWeights) -> None:
    calibration = calibrated(tmp_path, weights, gram=True)
    choice = choose(load_recipe("workstation-int4"), "decoder", UP, calibration)
    assert choice.has_gram and choice.reason == "rounded with second moments"
    large = choose(load_recipe("workstation-int4"), "decoder", linear(UP.weight, 18944), calibration)
    assert not large.has_gram and large.reason == "rounded to nearest: 18944 inputs, second moments up to 8192"
    static = choose(load_recipe("workstation-w8a8"), "decoder", UP, calibration)
    assert not static.has_gram and static.reason == ""


def test_kept_tensors_say_so_and_floats_need_no_reason() -> None:
    recipe = changed("workstation-int8", keep_float=("*.up_proj.weight",))
    assert choose(recipe, "decoder", UP, None).reason == "keep_float"
    head = choose(recipe, "head-0", linear("lm_head.weight"), None)
    assert (head.form, head.reason) == ("float", "")
