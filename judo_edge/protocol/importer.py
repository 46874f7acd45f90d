"""Import of JUDO's system text from the official evaluator file, which is parsed and never run.

Knows the name of the function that builds the text, and the SHA-256 of what it builds for a 16x16 grid; the text itself
is not in this package.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from pathlib import Path

from judo_edge.config import model_from_data
from judo_edge.errors import InputError
from judo_edge.protocol.profile import PromptProfile, sha256_from_text
from judo_edge.protocol.static_eval import text_from_function

PUBLISHED_SHA256 = "02198c62d3b070b4208d7eccb53cd8f6ab90c5da6134a7ad9ef056fd08c8057e"
"""SHA-256 of the published system text for a 16x16 grid, UTF-8."""
FUNCTION = "make_system_prompt"
PARAMETERS = ("patch_rows", "patch_cols")

_PUBLISHED_GRID = (16, 16)
_MAX_BYTES = 4_000_000
_MAX_GRID = 64


@dataclass(frozen=True)
class ImportedProfile:
    """A profile made from an evaluator file, and how it compares with the published one."""

    profile: PromptProfile
    sha256: str
    """SHA-256 of the file's text for a 16x16 grid, whatever grid the profile has."""
    is_published: bool
    warning: str
    """What the user must know, empty for the published text."""


def profile_from_evaluator(
    path: Path,
    grid: int | tuple[int, int] = 16,
    *,
    name: str = "judo",
    prefix: str = "\n",
    allow_other: bool = False,
    published: str = PUBLISHED_SHA256,
) -> ImportedProfile:
    """Make a JUDO profile from the official evaluator file for a grid of `grid` (rows, columns; a number for both).

    The file's 16x16 text is compared with `published`, so any grid is checked. InputError when it differs (unless
    `allow_other`) or when the file holds anything but plain text building.
    """
    rows, cols = (grid, grid) if isinstance(grid, int) else grid
    actual = sha256_from_text(text_from_evaluator(path, *_PUBLISHED_GRID))
    if actual != published and not allow_other:
        action = "take the official file, or allow another text on purpose"
        raise InputError(f"{path}: system text for 16x16 has SHA-256 {actual}", f"the published {published}", action)
    system = text_from_evaluator(path, rows, cols)
    settings = {"name": name, "grid_rows": rows, "grid_cols": cols, "system": system, "prefix": prefix}
    profile = model_from_data(PromptProfile, settings, str(path))
    warning = "" if actual == published else f"not the published text: SHA-256 {actual}, published {published}"
    return ImportedProfile(profile, actual, actual == published, warning)


def text_from_evaluator(path: Path, rows: int, cols: int) -> str:
    """Return what the file's `make_system_prompt(rows, cols)` would return, without running any of it.

    InputError when the file cannot be parsed, the function is missing, ambiguous or not plain text building.
    """
    if not (1 <= rows <= _MAX_GRID and 1 <= cols <= _MAX_GRID):
        raise InputError(f"grid {rows}x{cols}", f"1 to {_MAX_GRID} rows and columns")
    arguments = {PARAMETERS[0]: rows, PARAMETERS[1]: cols}
    texts = {}
    for function in _functions(_tree_from_file(path), path):
        texts[text_from_function(function, arguments, str(path))] = function.lineno
    if len(texts) > 1:
        lines = ", ".join(str(line) for line in sorted(texts.values()))
        raise InputError(f"{path}: {FUNCTION} is defined with different texts (lines {lines})", "one text")
    return next(iter(texts))


def _functions(tree: ast.Module, path: Path) -> list[ast.FunctionDef]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == FUNCTION]
    wanted = f"a function {FUNCTION}({', '.join(PARAMETERS)})"
    if not found:
        raise InputError(f"{path}: no function {FUNCTION}", wanted, "pass the evaluator file eval/eval_seg_mult.py")
    for function in found:
        if not _has_plain_signature(function):
            raise InputError(f"{path}:{function.lineno}: {FUNCTION} has another signature or a decorator", wanted)
    return found


def _has_plain_signature(function: ast.FunctionDef) -> bool:
    arguments = function.args
    names = tuple(argument.arg for argument in arguments.posonlyargs + arguments.args)
    others = (arguments.vararg, arguments.kwarg, *arguments.kwonlyargs, *function.decorator_list)
    return names == PARAMETERS and not any(others)


def _tree_from_file(path: Path) -> ast.Module:
    try:
        with path.open("rb") as file:
            source = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "a Python file", "check the path") from error
    if len(source) > _MAX_BYTES:
        raise InputError(f"{path} has over {_MAX_BYTES} bytes", "the evaluator's Python file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in a foreign file are not our user's business
            return ast.parse(source)
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno or 0}: not Python: {error.msg}", "a Python file") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path} cannot be parsed: {error}", "a Python file") from error
