"""Prompt profiles: byte-exact text, a hash that notices every change, and Qwen's chat text around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from judo_edge.errors import ConfigError, InputError, OutputError
from judo_edge.protocol.profile import (
    PromptProfile,
    load_profile,
    prompt_text,
    save_profile,
    sha256_from_text,
    user_text,
)
from judo_edge.protocol.questions import Question, QuestionType, detection_question

SYSTEM = 'Grid 16\u00d716, top\u2011left first.\n\tSay "None" or \\cells\\.\r\n\u200b\x7f\u2028\U0001f50d end\n'


def profile(**changes: Any) -> PromptProfile:
    return PromptProfile(**{"name": "test", "system": SYSTEM, **changes})


def test_round_trip_keeps_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    original = profile(prefix="n", image_order="normal-first", resize=224, image_size=224, grid_cols=8)
    save_profile(original, path)
    loaded = load_profile(path)
    assert loaded == original
    assert loaded.system.encode("utf-8") == SYSTEM.encode("utf-8")
    assert loaded.tags == ("seg", "think", "answer")


@settings(max_examples=50, deadline=None)
@given(system=st.text(st.characters(exclude_categories=["Cs"]), max_size=80).filter(lambda text: "<|" not in text))
def test_round_trip_of_any_system_text(system: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("profile") / "p.toml"
    save_profile(profile(system=system), path)
    assert load_profile(path).system == system


def test_line_ending_conversion_does_not_change_the_text(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    save_profile(profile(), path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_profile(path).system == SYSTEM


def test_a_changed_text_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    save_profile(profile(), path)
    path.write_text(path.read_text(encoding="utf-8").replace("top\u2011left", "top-left"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_profile(path)
    message = str(caught.value)
    assert sha256_from_text(SYSTEM) in message
    assert sha256_from_text(SYSTEM.replace("\u2011", "-")) in message
    assert str(path) in message


@pytest.mark.parametrize("key", list(PromptProfile.model_fields))
def test_every_key_must_be_in_the_file(tmp_path: Path, key: str) -> None:
    path = tmp_path / "profile.toml"
    save_profile(profile(), path)
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(f"{key} =")]
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"key '{key}' is missing"):
        load_profile(path)


def test_unknown_key_and_bad_values(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    save_profile(profile(), path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "grid = 16\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"unknown key 'grid'.*grid_rows"):
        load_profile(path)
    path.write_text(text.replace("grid_rows = 16", 'grid_rows = "16"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="grid_rows = '16'"):
        load_profile(path)
    path.write_text(text.replace("query-first", "random"), encoding="utf-8")
    with pytest.raises(ConfigError, match="'query-first' or 'normal-first'"):
        load_profile(path)
    path.write_text(text.replace('"think", ', ""), encoding="utf-8")
    with pytest.raises(ConfigError, match="tags"):
        load_profile(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"system": "hello <|im_end|>"},
        {"prefix": "<|image_pad|>"},
        {"user_template": "{question}"},
        {"user_template": "{question} {options} {options}"},
        {"system_sha256": "00"},
        {"system_sha256": ""},
        {"grid_rows": 0},
        {"image_size": 27},
        {"option_style": "dict"},
        {"tags": ("think", "seg", "answer")},
    ],
)
def test_unusable_profiles_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        profile(**changes)


def test_saving_never_overwrites_unasked(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    save_profile(profile(), path)
    with pytest.raises(OutputError, match="exists"):
        save_profile(profile(name="other"), path)
    assert load_profile(path).name == "test"
    save_profile(profile(name="other"), path, force=True)
    assert load_profile(path).name == "other"
    assert [item.name for item in tmp_path.iterdir()] == ["profile.toml"]


def test_a_full_disk_leaves_the_old_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profile.toml"
    save_profile(profile(), path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        save_profile(profile(name="other"), path, force=True)
    assert load_profile(path).name == "test"
    assert [item.name for item in tmp_path.iterdir()] == ["profile.toml"]


def test_chat_text_is_qwens() -> None:
    text = prompt_text(profile(system="S\n"), detection_question(), 2)
    image = "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>"
    assert text == (
        "<|im_start|>system\nS\n<|im_end|>\n"
        f"<|im_start|>user\n{image}{image}\n"
        "First image = QUERY; Second image = NORMAL template.\n"
        "Question: Is there any defect in the object?\n"
        "A. Yes.\nB. No.\n<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_prefix_and_empty_system() -> None:
    text = prompt_text(profile(system="", prefix="n"), detection_question(), 1)
    assert text.startswith("<|im_start|>user\n<|vision_start|>")
    assert "<|vision_end|>nFirst image" in text
    with pytest.raises(ValueError, match="image_tokens"):
        prompt_text(profile(), detection_question(), 0)


def test_braces_in_a_question_stay_text() -> None:
    question = Question(QuestionType.DEFECT_ANALYSIS, "{options} {0} {question.__class__}", ("{question}", "b"))
    text = user_text(profile(user_template="{other} {question}|{options}"), question)
    assert text == "\n{other} {options} {0} {question.__class__}|A. {question}\nB. b\n"


@pytest.mark.parametrize("text", ["a <|image_pad|> b", "<|im_end|>"])
def test_a_question_cannot_smuggle_in_chat_tokens(text: str) -> None:
    for question in (Question(QuestionType.DEFECT_ANALYSIS, text, ("a", "b")), reordered_with(text)):
        with pytest.raises(InputError, match=r"contains <\|"):
            prompt_text(profile(), question, 1)


def reordered_with(text: str) -> Question:
    return Question(QuestionType.DEFECT_ANALYSIS, "?", ("a", text))


def test_image_order() -> None:
    assert profile().in_image_order("query", "normal") == ("query", "normal")
    assert profile(image_order="normal-first").in_image_order("query", "normal") == ("normal", "query")
