"""Recipes: every shipped one loads, a wrong one is named, and each tensor gets the form the recipe says."""

from __future__ import annotations

from pathlib import Path

import pytest

import judo_edge
from judo_edge.errors import ConfigError
from judo_edge.export.graphs import LinearUse
from judo_edge.export.recipe import Recipe, load_recipe, recipe_folder, recipe_names

INT8 = (recipe_folder() / "cpu-int8.toml").read_text()


def linear(name: str) -> LinearUse:
    return LinearUse(name.removesuffix(".weight"), name, None, name, 8, 8)


def load_text(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load_recipe(path)


def test_shipped_recipes_load_under_their_file_name() -> None:
    assert {"cpu-fp32", "cpu-int8"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).name == name


def test_recipe_is_found_in_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "judo_edge" / "_recipes").mkdir(parents=True)
    (tmp_path / "judo_edge" / "_recipes" / "only.toml").write_text(INT8)
    monkeypatch.setattr(judo_edge, "__file__", str(tmp_path / "judo_edge" / "__init__.py"))
    assert recipe_names() == ["only"]
    assert load_recipe("only").decoder_linears == "int8-block"


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'cpu-int4'; wanted: one of cpu-fp32, cpu-int8.*or a TOML file"):
        load_recipe("cpu-int4")


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
