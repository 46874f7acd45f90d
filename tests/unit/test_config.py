"""Settings files: every mistake ends in one line that names the file, the key and what is allowed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from judo_edge.config import Frozen, model_from_data, model_from_toml, toml_from_data
from judo_edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Weights(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bits: Literal[4, 8]
    group: int = 32


class Target(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    weights: Weights
    layers: dict[str, Weights] = {}
    extra: list[Weights] = []
    password: str = ""


def error_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "target.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        model_from_toml(Target, path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def test_a_right_file_becomes_the_model(tmp_path: Path) -> None:
    path = tmp_path / "target.toml"
    path.write_text('name = "x"\n[weights]\nbits = 4\n[layers.head]\nbits = 8\ngroup = 16\n', encoding="utf-8")
    target = model_from_toml(Target, path)
    assert target.weights == Weights(bits=4, group=32)
    assert target.layers["head"].group == 16


def test_unknown_key_lists_the_allowed_ones(tmp_path: Path) -> None:
    message = error_of(tmp_path, 'name = "x"\nnmae = "y"\n[weights]\nbits = 4\n')
    assert "unknown key 'nmae'" in message
    assert "one of name, weights, layers, extra, password" in message
    assert "did you mean 'name'?" in message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('name = "x"\n[weights]\nbits = 4\nbist = 4\n', "weights.bist"),
        ('name = "x"\n[weights]\nbits = 4\n[layers.head]\nbits = 4\nbist = 4\n', "layers.head.bist"),
        ('name = "x"\n[weights]\nbits = 4\n[[extra]]\nbits = 4\nbist = 4\n', "extra.0.bist"),
    ],
)
def test_unknown_nested_key_lists_the_keys_of_its_own_table(tmp_path: Path, text: str, key: str) -> None:
    message = error_of(tmp_path, text)
    assert f"unknown key '{key}'" in message
    assert "one of bits, group;" in message
    assert "did you mean 'bits'?" in message


def test_missing_key_wrong_value_and_their_number(tmp_path: Path) -> None:
    assert "key 'weights' is missing" in error_of(tmp_path, 'name = "x"\n')
    message = error_of(tmp_path, 'name = "x"\n[weights]\nbits = 5\ngroup = "many"\n')
    assert "weights.bits = 5" in message
    assert "wanted: 4 or 8" in message
    assert "(and 1 more)" in message


def test_a_secret_is_not_printed(tmp_path: Path) -> None:
    message = error_of(tmp_path, 'name = "x"\npassword = 123456\n[weights]\nbits = 4\n')
    assert "password" in message
    assert "123456" not in message


def test_unreadable_files(tmp_path: Path) -> None:
    assert "not TOML" in error_of(tmp_path, "name = \n")
    with pytest.raises(ConfigError, match="cannot be read"):
        model_from_toml(Target, tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        model_from_toml(Target, tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "\xe9"\n')
    with pytest.raises(ConfigError, match="byte 8 is not UTF-8"):
        model_from_toml(Target, latin)


def test_data_errors_name_their_source() -> None:
    with pytest.raises(ConfigError, match=r"^manifest\.json: key 'name' is missing"):
        model_from_data(Target, {"weights": {"bits": 4}}, "manifest.json")


SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False),
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), SCALARS | st.lists(SCALARS, max_size=3)))
def test_written_toml_reads_back_the_same(data: dict[str, object]) -> None:
    text = toml_from_data(data)  # type: ignore[arg-type]
    assert tomllib.loads(text) == data
    assert text.count("\n") == len(data)  # line-ending conversion cannot reach a value


def test_a_lone_surrogate_is_refused_when_writing() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        toml_from_data({"text": "\ud800"})


class Round(Frozen):
    kind: Literal["round"]
    radius: int


class Square(Frozen):
    kind: Literal["square"]
    side: int


class Shapes(Frozen):
    shapes: tuple[Annotated[Round | Square, Field(discriminator="kind")], ...]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            'kind = "round"\nradus = 3',
            "unknown key 'shapes.0.radus' (and 1 more); wanted: one of kind, radius; do: did you mean 'radius'?",
        ),
        ('kind = "squre"', "shapes.0.kind = 'squre'; wanted: one of 'round', 'square'; do: correct 'shapes.0.kind'"),
        ("side = 3", "key 'shapes.0.kind' is missing; do: set 'shapes.0.kind'"),
        ('kind = "square"', "key 'shapes.0.side' is missing; do: set 'shapes.0.side'"),
        ('kind = "square"\nside = "a"', "shapes.0.side = 'a'"),
    ],
)
def test_a_table_that_says_its_kind_is_named_as_the_file_has_it(tmp_path: Path, table: str, message: str) -> None:
    path = tmp_path / "shapes.toml"
    path.write_text(f"[[shapes]]\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        model_from_toml(Shapes, path)
    assert message in str(caught.value)
