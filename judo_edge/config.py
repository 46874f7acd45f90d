"""TOML files to frozen models and back.

Knows TOML, pydantic's complaints and how to name the key at fault in one line; knows nothing of what a setting means,
nor of how a file is written.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from judo_edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ModelT = TypeVar("ModelT", bound=BaseModel)
Scalar = str | bool | int | float

_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PRIVATE_WORDS = ("password", "secret")


class Frozen(BaseModel):
    """Base of models at the edges: immutable, unknown keys refused, not-a-number refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def model_from_toml(cls: type[ModelT], path: Path) -> ModelT:
    """Read a TOML file into a model; ConfigError names the file, the key and what is allowed."""
    return model_from_data(cls, toml_from_file(path), str(path))


def model_from_data(cls: type[ModelT], data: Mapping[str, Any], source: str) -> ModelT:
    """Check a mapping against a model; `source` is the name that a ConfigError gives to its origin."""
    try:
        return cls.model_validate(dict(data))
    except ValidationError as error:
        raise _error_from_validation(cls, error, source) from error


def toml_from_file(path: Path) -> dict[str, Any]:
    """Parse a TOML file; ConfigError when it cannot be read or is not TOML in UTF-8."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8"))
        return data
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "a TOML file", "check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8", "TOML text in UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", "TOML text", "correct that place") from error


def toml_from_data(data: Mapping[str, Scalar | Sequence[Scalar]]) -> str:
    """Write flat settings as TOML, one key per line in the given order.

    Text becomes one line with escapes, so that no editor or line-ending conversion can change it unseen.
    """
    return "".join(f"{key} = {_toml_from_value(value)}\n" for key, value in data.items())


def _toml_from_value(value: Scalar | Sequence[Scalar]) -> str:
    if isinstance(value, str):
        value.encode("utf-8")  # a lone surrogate has no TOML form: ValueError here, not an unreadable file
        return '"' + "".join(_escaped(char) for char in value) + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return "[" + ", ".join(_toml_from_value(item) for item in value) + "]"


def _escaped(char: str) -> str:
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) <= 0xFFFF else f"\\U{ord(char):08x}"


def _error_from_validation(cls: type[BaseModel], error: ValidationError, source: str) -> ConfigError:
    details = error.errors(include_url=False)
    details.sort(key=lambda one: one["type"] != "extra_forbidden")  # a misspelt key is why another one is missing
    found, wanted, action = _complaint(cls, details[0])
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return ConfigError(f"{source}: {found}{more}", wanted, action)


def _complaint(cls: type[BaseModel], detail: ErrorDetails) -> tuple[str, str, str]:
    location, _ = _place(cls, detail["loc"])
    key = ".".join(str(part) for part in location)
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if detail["type"] == "extra_forbidden":
        return _unknown_key(cls, detail["loc"])
    if detail["type"].startswith("union_tag_"):
        return _wrong_kind(key, detail["ctx"])
    if detail["type"] == "missing":
        return f"key '{key}' is missing", "", f"set '{key}'"
    if not key:
        return message, "", "correct the file"
    return f"{key} = {_shown(key, detail['input'])}", message, f"correct '{key}'"


def _wrong_kind(key: str, context: dict[str, Any]) -> tuple[str, str, str]:
    """Complain of a table whose kind is told by one of its keys, and which has no such kind."""
    kind = f"{key}.{context['discriminator'].strip(chr(39))}"
    if "tag" not in context:
        return f"key '{kind}' is missing", "", f"set '{kind}'"
    return f"{kind} = {_shown(kind, context['tag'])}", f"one of {context['expected_tags']}", f"correct '{kind}'"


def _unknown_key(cls: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, str, str]:
    shown, model = _place(cls, location[:-1])
    key = ".".join(str(part) for part in (*shown, location[-1]))
    allowed = list(model.model_fields) if model else []
    near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    action = f"did you mean '{near[0]}'?" if near else f"remove '{key}'"
    return f"unknown key '{key}'", f"one of {', '.join(allowed)}" if allowed else "", action


def _place(
    cls: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[tuple[int | str, ...], type[BaseModel] | None]:
    """Return a place as the file has it, and the model there; None where a union leaves more than one possible.

    pydantic names a table's kind as if it were a key (`cameras.0.folder.name`); the file has no such key.
    """
    models: list[type[BaseModel]] = [cls]
    shown: list[int | str] = []
    for part in location:
        if len(models) > 1 and (of_kind := [one for one in models if _is_of_kind(one, part)]):
            models = of_kind
            continue
        shown.append(part)
        field = models[0].model_fields.get(str(part)) if len(models) == 1 else None
        if field is not None:  # else an index, or a key of a mapping: the model stays
            models = list(_models_in(field.annotation)) or models
    return tuple(shown), models[0] if len(models) == 1 else None


def _is_of_kind(model: type[BaseModel], kind: int | str) -> bool:
    fields = model.model_fields.values()
    return any(get_origin(field.annotation) is Literal and get_args(field.annotation) == (kind,) for field in fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _shown(key: str, value: object) -> str:
    if any(word in key.lower() for word in _PRIVATE_WORDS):
        return "(not shown)"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
