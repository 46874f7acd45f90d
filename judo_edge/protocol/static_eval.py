"""A reader of Python functions that build a text: it walks the syntax tree and runs nothing.

Knows constants, f-strings, joins, arithmetic, simple local assignments and a few text methods; every other construct
is refused with its line. Results are bounded, so a hostile file can waste neither time nor memory.
"""

from __future__ import annotations

import ast
import inspect
import re
import string
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from judo_edge.errors import InputError

Value = str | int

MAX_CHARS = 100_000
"""Longest text that is built; JUDO's is 591 characters."""
MAX_INT = 10**9

_PLAIN_SPEC = re.compile(r"[<>^]?0?[0-9]{0,3}[ds]?")
_STRIPS: dict[str, Callable[..., str]] = {"strip": str.strip, "lstrip": str.lstrip, "rstrip": str.rstrip}
_FUNCTIONS: dict[str, Callable[[str], str]] = {
    "textwrap.dedent": textwrap.dedent,
    "dedent": textwrap.dedent,
    "inspect.cleandoc": inspect.cleandoc,
    "cleandoc": inspect.cleandoc,
}


def text_from_function(function: ast.FunctionDef, arguments: Mapping[str, int], source: str) -> str:
    """Return the text that a function would return; InputError names `source` and the line of what is not allowed."""
    try:
        value = _Reader(source, arguments).returned(function)
    except RecursionError:
        _refuse(source, function, f"{function.name} is nested too deeply")
    if not isinstance(value, str):
        _refuse(source, function, f"{function.name} returns a number, not a text")
    return value


def _refuse(source: str, node: ast.AST, what: str) -> NoReturn:
    line = getattr(node, "lineno", 0)
    raise InputError(f"{source}:{line}: {what}", "text built from constants, f-strings and the two grid numbers")


class _Reader:
    """Evaluates the statements of one function over its own table of names."""

    def __init__(self, source: str, arguments: Mapping[str, int]) -> None:
        self._source = source
        self._names: dict[str, Value] = dict(arguments)

    def returned(self, function: ast.FunctionDef) -> Value:
        for statement in function.body:
            if isinstance(statement, ast.Return) and statement.value is not None:
                return self._value(statement.value)
            self._assign(statement)
        return self._fail(function, f"{function.name} returns nothing")

    def _assign(self, statement: ast.stmt) -> None:
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if is_docstring or isinstance(statement, ast.Pass):
            return
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            self._bind(statement.targets[0], self._value(statement.value))
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            self._bind(statement.target, self._value(statement.value))
        elif isinstance(statement, ast.AugAssign):
            both = ast.BinOp(statement.target, statement.op, statement.value)
            self._bind(statement.target, self._value(ast.copy_location(both, statement)))
        else:
            self._fail(statement, f"`{_shown(statement)}` is not evaluated")

    def _bind(self, target: ast.expr, value: Value) -> None:
        if not isinstance(target, ast.Name):
            self._fail(target, f"assignment to `{_shown(target)}` is not evaluated")
        self._names[target.id] = value

    def _value(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.Name) and node.id in self._names:
            return self._names[node.id]
        if isinstance(node, ast.JoinedStr):
            return self._joined(node, (self._part(part) for part in node.values))
        if isinstance(node, ast.BinOp):
            return self._binary(node, self._value(node.left), self._value(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._number(node.operand)
        if isinstance(node, ast.Call):
            return self._call(node)
        return self._fail(node, f"`{_shown(node)}` is not evaluated")

    def _constant(self, node: ast.Constant) -> Value:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            self._fail(node, f"`{_shown(node)}` is not evaluated")
        return self._bounded(node, value)

    def _part(self, node: ast.expr) -> str:
        if not isinstance(node, ast.FormattedValue):
            return self._text(node)
        if node.conversion not in (-1, ord("s")):
            self._fail(node, "this conversion is not evaluated")
        value = self._value(node.value)
        spec = self._text(node.format_spec) if node.format_spec else ""
        return self._formatted(node, str(value) if node.conversion == ord("s") else value, spec)

    def _formatted(self, node: ast.expr, value: Value, spec: str) -> str:
        if not _PLAIN_SPEC.fullmatch(spec):
            self._fail(node, f"format {spec[:20]!r} is not evaluated")
        try:
            return format(value, spec)
        except ValueError as error:
            return self._fail(node, f"format fails: {error}")

    def _binary(self, node: ast.BinOp, left: Value, right: Value) -> Value:
        operator = node.op
        if isinstance(left, str) and isinstance(right, str) and isinstance(operator, ast.Add):
            return self._bounded(node, left + right)
        if isinstance(operator, ast.Mult) and isinstance(left, str) is not isinstance(right, str):
            text, times = (left, right) if isinstance(left, str) else (right, left)
            return self._repeated(node, str(text), int(times))
        if isinstance(left, int) and isinstance(right, int):
            return self._arithmetic(node, left, right)
        return self._fail(node, f"`{_shown(node)}` is not evaluated")

    def _repeated(self, node: ast.expr, text: str, times: int) -> str:
        if len(text) * times > MAX_CHARS:
            self._fail(node, f"a text of over {MAX_CHARS} characters")
        return text * times

    def _arithmetic(self, node: ast.BinOp, left: int, right: int) -> int:
        if isinstance(node.op, ast.Add):
            return self._bounded_int(node, left + right)
        if isinstance(node.op, ast.Sub):
            return self._bounded_int(node, left - right)
        if isinstance(node.op, ast.Mult):
            return self._bounded_int(node, left * right)
        if isinstance(node.op, ast.FloorDiv) and right:
            return left // right
        if isinstance(node.op, ast.Mod) and right:
            return left % right
        return self._fail(node, f"`{_shown(node)}` is not evaluated")

    def _call(self, node: ast.Call) -> str:
        name, function = _dotted(node.func), node.func
        if name in _FUNCTIONS and len(node.args) == 1 and not node.keywords:
            return _FUNCTIONS[name](self._text(node.args[0]))
        if isinstance(function, ast.Attribute) and function.attr == "format" and _has_plain_keywords(node):
            return self._joined(node, self._format_parts(node, self._text(function.value)))
        if isinstance(function, ast.Attribute) and not node.keywords:
            if function.attr in _STRIPS and len(node.args) <= 1:
                return _STRIPS[function.attr](self._text(function.value), *map(self._text, node.args))
            if function.attr == "join" and len(node.args) == 1 and isinstance(node.args[0], (ast.List, ast.Tuple)):
                return self._join(node, self._text(function.value), node.args[0].elts)
        return self._fail(node, f"call of `{_shown(function)}` is not evaluated")

    def _join(self, node: ast.expr, separator: str, items: list[ast.expr]) -> str:
        parts = (part for i, item in enumerate(items) for part in ([separator] if i else []) + [self._text(item)])
        return self._joined(node, parts)

    def _format_parts(self, node: ast.Call, template: str) -> Iterable[str]:
        values: dict[str, Value] = {str(i): self._value(arg) for i, arg in enumerate(node.args)}
        values.update({keyword.arg or "": self._value(keyword.value) for keyword in node.keywords})
        count, is_numbered = 0, False
        try:
            for literal, field, spec, conversion in string.Formatter().parse(template):
                yield literal
                if field is None:
                    continue
                is_mixed = count > 0 if field.isdigit() else is_numbered and not field
                is_numbered |= field.isdigit()
                key, count = (field, count) if field else (str(count), count + 1)
                if key not in values or conversion or is_mixed:
                    self._fail(node, f"field {{{field[:20]}}} is not evaluated")
                yield self._formatted(node, values[key], spec or "")
        except ValueError as error:
            self._fail(node, f"format text is broken: {error}")

    def _joined(self, node: ast.expr, parts: Iterable[str]) -> str:
        text, size = [], 0
        for part in parts:
            text.append(part)
            size += len(part)
            if size > MAX_CHARS:
                self._fail(node, f"a text of over {MAX_CHARS} characters")
        return "".join(text)

    def _text(self, node: ast.expr) -> str:
        value = self._value(node)
        return value if isinstance(value, str) else self._fail(node, f"`{_shown(node)}` is a number, not a text")

    def _number(self, node: ast.expr) -> int:
        value = self._value(node)
        return value if isinstance(value, int) else self._fail(node, f"`{_shown(node)}` is a text, not a number")

    def _bounded(self, node: ast.expr, value: Value) -> Value:
        if isinstance(value, int):
            return self._bounded_int(node, value)
        return value if len(value) <= MAX_CHARS else self._fail(node, f"a text of over {MAX_CHARS} characters")

    def _bounded_int(self, node: ast.expr, value: int) -> int:
        return value if abs(value) <= MAX_INT else self._fail(node, f"a number beyond {MAX_INT}")

    def _fail(self, node: ast.AST, what: str) -> NoReturn:
        _refuse(self._source, node, what)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def _has_plain_keywords(node: ast.Call) -> bool:
    return all(keyword.arg for keyword in node.keywords)


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 50 else f"{text[:47]}..."
