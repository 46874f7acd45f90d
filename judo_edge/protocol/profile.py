"""Prompt profiles: everything about the prompt that a checkpoint was trained with, as data.

Knows Qwen2.5-VL's chat text and where images stand in it; knows nothing of token ids or pixels. The system text is
part of a profile file and never of this package; its SHA-256 travels with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from judo_edge.config import model_from_data, toml_from_data, toml_from_file
from judo_edge.errors import ConfigError, InputError
from judo_edge.files import sha256_of_bytes, write_atomic
from judo_edge.protocol.questions import Question, option_lines

JUDO_USER_TEMPLATE = "First image = QUERY; Second image = NORMAL template.\nQuestion: {question}\n{options}"
"""User text of JUDO's evaluator, after the prefix."""

_SPECIAL_TOKEN = re.compile(r"<\|[A-Za-z0-9_]+\|>")
_FIELD = re.compile(r"\{(question|options)\}")
_T = TypeVar("_T")


class PromptProfile(BaseModel):
    """One way of asking; the defaults are JUDO's. `system_sha256` is filled when not given and checked when given."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1)
    image_order: Literal["query-first", "normal-first"] = "query-first"
    resize: int = Field(default=512, ge=28, le=8192)
    """Side of the first resize, pixels: LANCZOS, aspect ratio not kept."""
    image_size: int = Field(default=504, ge=28, le=8192)
    """Side of the second resize, pixels: BICUBIC, skipped when equal to `resize`."""
    grid_rows: int = Field(default=16, ge=1, le=64)
    grid_cols: int = Field(default=16, ge=1, le=64)
    system: str
    """System text, byte-exact; empty for no system turn."""
    user_template: str = JUDO_USER_TEMPLATE
    """User text with {question} and {options}, each once; other braces stay as they are."""
    option_style: Literal["lines"] = "lines"
    prefix: str = "\n"
    """Text between the last image and the user text; JUDO trained with a newline, its evaluator sends the letter n."""
    system_sha256: str = ""
    """SHA-256 of `system` in UTF-8, hexadecimal."""
    max_new_tokens: int = Field(default=320, ge=1, le=4096)
    """Cap on generated tokens; JUDO was trained under 256."""
    tags: tuple[Literal["seg"], Literal["think"], Literal["answer"]] = Field(
        default=("seg", "think", "answer"), strict=False
    )
    """Reply tags in order; fixed."""

    @model_validator(mode="before")
    @classmethod
    def _fill_hash(cls, data: Any) -> Any:
        if isinstance(data, dict) and "system_sha256" not in data and isinstance(data.get("system"), str):
            return {**data, "system_sha256": sha256_from_text(data["system"])}
        return data

    @model_validator(mode="after")
    def _check_hash(self) -> PromptProfile:
        actual = sha256_from_text(self.system)
        if actual != self.system_sha256:
            raise ValueError(f"system has SHA-256 {actual}, system_sha256 says {self.system_sha256}: text was changed")
        return self

    @field_validator("system", "user_template", "prefix")
    @classmethod
    def _check_no_special_token(cls, text: str) -> str:
        if found := _SPECIAL_TOKEN.search(text):
            raise ValueError(f"text without chat tokens such as {found.group()}")
        return text

    @field_validator("user_template")
    @classmethod
    def _check_fields(cls, template: str) -> str:
        if sorted(_FIELD.findall(template)) != ["options", "question"]:
            raise ValueError("a text with {question} and {options}, each once")
        return template

    def in_image_order(self, query: _T, normal: _T) -> tuple[_T, _T]:
        """Return the two in the order in which the prompt shows them."""
        return (query, normal) if self.image_order == "query-first" else (normal, query)


def sha256_from_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, hexadecimal."""
    return sha256_of_bytes(text.encode("utf-8"))


def load_profile(path: Path) -> PromptProfile:
    """Read a profile; ConfigError when a key is unknown, missing or wrong, or when the system text was changed."""
    data = toml_from_file(path)
    missing = [key for key in PromptProfile.model_fields if key not in data]
    if missing:  # a file states everything: defaults of a later version must not change an old profile
        raise ConfigError(f"{path}: key '{missing[0]}' is missing", "every key of a profile", f"set '{missing[0]}'")
    return model_from_data(PromptProfile, data, str(path))


def save_profile(profile: PromptProfile, path: Path, force: bool = False) -> None:
    """Write a profile as TOML beside `path` and rename; OutputError when it exists and `force` is not given."""
    write_atomic(path, toml_from_data(profile.model_dump()).encode("utf-8"), force)


def user_text(profile: PromptProfile, question: Question) -> str:
    """Return the text after the images, prefix included; InputError when the question smuggles in a chat token."""
    values = {"question": question.text, "options": option_lines(question)}
    for value in values.values():
        if found := _SPECIAL_TOKEN.search(value):
            raise InputError(f"question contains {found.group()}", "plain text", "remove the token")
    return profile.prefix + _FIELD.sub(lambda match: values[match[1]], profile.user_template)


def prompt_text(profile: PromptProfile, question: Question, image_tokens: int) -> str:
    """Return Qwen2.5-VL's chat text up to the assistant's turn, with `image_tokens` placeholders for each image."""
    if image_tokens < 1:
        raise ValueError(f"image_tokens is {image_tokens}, wanted at least 1")
    system = f"<|im_start|>system\n{profile.system}<|im_end|>\n" if profile.system else ""
    image = "<|vision_start|>" + "<|image_pad|>" * image_tokens + "<|vision_end|>"
    turn = f"<|im_start|>user\n{image}{image}{user_text(profile, question)}<|im_end|>\n"
    return f"{system}{turn}<|im_start|>assistant\n"
