"""Recipes: every shipped one loads, a wrong one is named, and each tensor gets the form the recipe says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import judo_edge
from judo_edge.errors import ConfigError
from judo_edge.export.graphs import LinearUse
from judo_edge.export.recipe import Recipe, load_recipe, recipe_folder, recipe_names

INT8 = (recipe_folder() / "cpu-int8.toml").read_text()

SHIPPED = {
    *(f"cpu-{form}" for form in ("fp32", "int8", "int4", "w8a8")),
    *(f"jetson-agx-orin-{form}" for form in ("fp16", "int8", "int4", "w8a8")),
    *(f"jetson-orin-nx-{form}" for form in ("int8", "int4")),
    *(f"jetson-thor-{form}" for form in ("fp16", "int8", "int4")),
    *(f"workstation-{form}" for form in ("fp16", "int8", "int4", "w8a8")),
}


def linear(name: str) -> LinearUse:
    return LinearUse(name.removesuffix(".weight"), name, None, name, 8, 8)


def load_text(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load_recipe(path)


def test_shipped_recipes_load_under_their_file_name() -> None:
    assert set(recipe_names()) == SHIPPED
    for name in recipe_names():
        assert load_recipe(name).name == name


def test_recipe_is_found_in_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judo_edge" / "_recipes").mkdir(parents=True)
    (tmp_path / "judo_edge" / "_recipes" / "only.toml").write_text(INT8)
    monkeypatch.setattr(judo_edge, "__file__", str(tmp_path / "judo_edge" / "__init__.py"))
    assert recipe_names() == ["only"]
    assert load_recipe("only").decoder_linears == "int8-block"


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'cpu-int2'; wanted: one of cpu-fp32, .*cpu-int8.*or a TOML file"):
        load_recipe("cpu-int2")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('engine = "onnxruntime"', 'engine = "abacus"', "engine"),
        ('embedding = "float16"', 'embedding = "int8"', "embedding"),
        ("block = 128", "block = 100", "int8.block"),
        ("block = 128", 'block = "128"', "int8.block"),
        ("accuracy_level = 4", "accuracy_level = 0", "accuracy_level"),
        ("keep_float = []", "keep_floats = []", "keep_float"),
        ("[int8]", "[int9]", "int9"),
        ('name = "cpu-int8"', 'name = "a b"', "name"),
        ('lm_head = "int8-block"', "", "lm_head"),
        ("block = 128", "block = ", "mine.toml"),
        ('dialect = "legacy"', 'dialect = "old"', "dialect"),
        ('dtype = "float32"', 'dtype = "bfloat16"', "dtype"),
        ('scales = "max-abs"', 'scales = "min"', "scales"),
        ("layers_per_segment = 0", "layers_per_segment = -1", "layers_per_segment"),
        ("head_parts = 1", "head_parts = 0", "head_parts"),
        ('vision_linears = "float"', 'vision_linears = "int8-static"', "vision_linears"),
        ('engine = "onnxruntime"', 'engine = "tensorrt"', "expands int8 blocks to float"),
    ],
)
def test_wrong_setting_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert old in INT8
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, INT8.replace(old, new))
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_int8_table_and_int8_forms_belong_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a table \[int8\] exactly when a form is int8-block"):
        load_text(tmp_path, INT8[: INT8.index("[int8]")])
    with pytest.raises(ConfigError, match=r"a table \[int8\] only when a form is int8-block"):
        load_text(tmp_path, (recipe_folder() / "cpu-fp32.toml").read_text() + "[int8]\nblock = 32\n")


def test_each_kind_of_layer_has_its_own_switch(tmp_path: Path) -> None:
    recipe = load_recipe("cpu-int8")
    layer, head = linear("model.layers.0.mlp.up_proj.weight"), linear("lm_head.weight")
    tower, patches = linear("visual.blocks.0.attn.qkv.weight"), linear("visual.patch_embed.proj.weight")
    assert recipe.form_of("decoder", layer) == "int8-block" == recipe.form_of("decoder", head)
    assert recipe.form_of("vision", tower) == "float"
    changes = {"lm_head": "int8-channel", "vision_linears": "int8-block", "decoder_linears": "float"}
    other = recipe.model_copy(update=changes)
    assert other.form_of("layers-03", layer) == "float" and other.form_of("head-1", head) == "int8-channel"
    assert other.form_of("vision", tower) == "int8-block"
    assert other.form_of("vision", patches) == "float"
    assert load_recipe("cpu-fp32").form_of("decoder", layer) == "float"


def test_patterns_keep_tensors_and_must_name_one() -> None:
    recipe = load_recipe("cpu-int8").model_copy(update={"keep_float": ("*.1.mlp.down_proj.weight",)})
    names = ["model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight"]
    assert [recipe.form_of("decoder", linear(name)) for name in names] == ["int8-block", "float"]
    recipe.check_patterns(names)
    with pytest.raises(ConfigError, match=r"names no tensor by '\*\.1\.mlp\.down_proj\.weight'"):
        recipe.check_patterns(names[:1])


def test_tables_belong_to_their_forms(tmp_path: Path) -> None:
    for table, form in (("int4", "int4-block"), ("static", "int8-static")):
        with pytest.raises(ConfigError, match=rf"a table \[{table}\] only when a form is {form}"):
            load_text(tmp_path, f"{INT8}\n[{table}]\n{'block = 32' if table == 'int4' else 'max_error = 0.1'}\n")
    with pytest.raises(ConfigError, match=r"a table \[int4\] exactly when a form is int4-block"):
        load_text(tmp_path, INT8.replace('decoder_linears = "int8-block"', 'decoder_linears = "int4-block"'))
    with pytest.raises(ConfigError, match=r"sensitive.max_error"):
        load_text(tmp_path, f"{INT8}\n[sensitive]\nmax_error = 0\n")


def test_recipes_that_need_a_calibration_say_so(tmp_path: Path) -> None:
    asking = {name for name in recipe_names() if load_recipe(name).needs_calibration}
    assert asking == {name for name in SHIPPED if name.endswith("w8a8")}
    assert load_text(tmp_path, f"{INT8}\n[sensitive]\nmax_error = 0.1\n").needs_calibration


def test_shipped_recipes_suit_their_devices() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        on_cpu, on_orin = name.startswith("cpu"), "orin" in name
        assert (recipe.engine == "onnxruntime") == on_cpu and (recipe.dtype == "float32") == on_cpu
        assert recipe.dialect == ("legacy" if on_cpu or on_orin else "modern")
        assert recipe.vision_linears == "float", "the tower stays float unless a user asks"
    for form in ("int8", "int4"):
        recipe = load_recipe(f"jetson-orin-nx-{form}")
        assert (recipe.layers_per_segment, recipe.head_parts, recipe.lm_head) == (7, 2, "int8-channel")


def test_every_key_of_a_shipped_recipe_has_a_comment() -> None:
    for name in recipe_names():
        lines = (recipe_folder() / f"{name}.toml").read_text().splitlines()
        for before, line in pairwise(lines):
            if "=" in line and not line.startswith(("#", "name", "description")):
                assert before.startswith("# "), (name, line)
