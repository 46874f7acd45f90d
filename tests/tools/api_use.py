"""Which names of TensorRT a source file uses, read from its syntax tree: no list that someone has to keep.

Follows `trt.Name.Name`, and attributes of variables that are annotated with, or made by, a class of `trt`. A name that
the file itself asks for by `hasattr` or `getattr` is one that a version may lack.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ApiUse:
    """Dotted names below the module."""

    required: frozenset[str]
    probed: frozenset[str]
    """Last parts of names that the file asks for before it uses them."""


def api_use_of(path: Path, root: str = "trt") -> ApiUse:
    """Return the names that a file uses below the module it calls `root`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    probed = frozenset(_probed(tree))
    names = set(_dotted(tree, root))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            names |= set(_members(function, root))
    return ApiUse(frozenset(name for name in names if not probed & set(name.split("."))), probed)


def _probed(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant):
                yield str(name.value)


def _dotted(tree: ast.AST, root: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := _below(node, root)):
            yield name


def _below(node: ast.AST, root: str) -> str:
    """Return `A.B` for `root.A.B`, else nothing."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed(parts)) if isinstance(node, ast.Name) and node.id == root else ""


def _members(function: ast.FunctionDef, root: str) -> Iterator[str]:
    """Yield `Class.attribute` for the variables of a function whose class is known."""
    classes = dict(_annotated(function, root))
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in classes:
            yield f"{classes[node.value.id]}.{node.attr}"


def _annotated(function: ast.FunctionDef, root: str) -> Iterator[tuple[str, str]]:
    for argument in function.args.args:
        yield from _pairs(argument.arg, argument.annotation, root)
    for node in ast.walk(function):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield from _pairs(node.target.id, node.annotation, root)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            yield from _pairs(node.targets[0].id, node.value.func, root)


def _pairs(name: str, annotation: ast.AST | None, root: str) -> Iterable[tuple[str, str]]:
    first = annotation.left if isinstance(annotation, ast.BinOp) else annotation  # X | None
    below = _below(first, root) if first is not None else ""
    return [(name, below)] if below and "." not in below else []
