"""Results as rows of a table: typed columns, with reviews and late results beside them. Knows no file format.

A column is derived from each field of `Result`, so that one that is added there is exported too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple

from judo_edge.core import Decision
from judo_edge.station.results import Code, LateResult, Result, ResultState


class Exported(NamedTuple):
    """One result and what became known of it later."""

    result: Result
    reviewer: str = ""
    """Who gave the review that the result carries."""
    review_note: str = ""
    reviewed: str = ""
    """When; UTC, ISO 8601."""
    late: LateResult | None = None


Value = Any
"""A number, text, time, mapping or list; None where nothing is known."""


class Column(NamedTuple):
    """A column's name, kind and how it is read from a row.

    Kinds: `integer`, `number`, `boolean`, `text`, `time` (UTC), `numbers` (mapping from text), `cells` (row, column).
    """

    name: str
    kind: str
    read: Callable[[Exported], Value]


_TIMES = ("created", "triggered", "acquired")
_KINDS: Mapping[Any, str] = {
    int: "integer", float: "number", float | None: "number", bool: "boolean", str: "text", int | None: "integer",
    dict[str, float]: "numbers", Decision: "text", Decision | None: "text", Code: "integer", ResultState: "integer",
}  # fmt: skip


def columns() -> tuple[Column, ...]:
    """Return all columns in order."""
    plain = [_column(name) for name in Result.model_fields if name != "mask"]
    return (*plain, *_BESIDE)


def _column(name: str) -> Column:
    kind = "time" if name in _TIMES else _KINDS[Result.model_fields[name].annotation]
    return Column(name, kind, lambda row: _plain(getattr(row.result, name), kind))


def _plain(value: Any, kind: str) -> Value:
    """Return a value as tables know it; an empty text stays one, an empty time is nothing."""
    if kind == "time":
        return datetime.fromisoformat(value) if value else None
    if isinstance(value, Decision):
        return value.value
    return int(value) if isinstance(value, IntEnum) else value


def _late(name: str, kind: str) -> Column:
    read = lambda row: None if row.late is None else _plain(getattr(row.late, name), kind)  # noqa: E731
    return Column(f"late_{name.removesuffix('_late')}", kind, read)


_BESIDE = (
    Column("code_name", "text", lambda row: row.result.code.name),
    Column("mask_rows", "integer", lambda row: row.result.mask and row.result.mask.rows),
    Column("mask_cols", "integer", lambda row: row.result.mask and row.result.mask.cols),
    Column("mask_cells", "cells", lambda row: row.result.mask and row.result.mask.cells),
    Column("reviewer", "text", lambda row: row.reviewer),
    Column("review_note", "text", lambda row: row.review_note),
    Column("reviewed", "time", lambda row: _plain(row.reviewed, "time")),
    _late("arrived", "time"),
    _late("seconds_late", "number"),
    _late("decision", "text"),
    _late("reason", "text"),
    _late("score", "number"),
)
