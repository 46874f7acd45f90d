"""Exported results as files: Parquet (needs pyarrow) or CSV, streamed in batches and renamed when complete.

Knows nothing of where the rows come from.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from judo_edge import __version__
from judo_edge.errors import DependencyError, OutputError
from judo_edge.files import output_errors
from judo_edge.station.tables import Column, Exported, columns

BATCH = 2000
"""Rows in memory at a time, and in a row group of the file."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_parquet(rows: Iterable[Exported], out: Path, force: bool = False) -> int:
    """Write rows to a Parquet file and return how many they were.

    Raises OutputError when `out` exists and `force` is not given or it cannot be written, DependencyError without
    pyarrow. Times are timestamps in microseconds, UTC; `evidence` and `seconds` are maps; `mask_cells` is a list of
    (row, column) from one.
    """
    pyarrow, writer_of = _arrow()
    kinds = columns()
    schema = pyarrow.schema([(column.name, _type(pyarrow, column.kind)) for column in kinds])
    schema = schema.with_metadata({"judo_edge_version": __version__})
    count = 0
    with _written_beside(out, force) as partial, writer_of(partial, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            values = [_values(column, batch) for column in kinds]
            arrays = [pyarrow.array(one, field.type) for one, field in zip(values, schema, strict=True)]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
            count += len(batch)
    return count


def write_csv(rows: Iterable[Exported], out: Path, force: bool = False) -> int:
    """Write rows to a CSV file (UTF-8) and return how many they were; OutputError as for `write_parquet`.

    Maps and cells are JSON. A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    kinds, count = columns(), 0
    with _written_beside(out, force) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([column.name for column in kinds])
        for row in rows:
            writer.writerow([_text(column.read(row)) for column in kinds])
            count += 1
    return count


@contextlib.contextmanager
def _written_beside(out: Path, force: bool) -> Iterator[Path]:
    """Give the name of a file beside `out`, which takes its place when all went well."""
    if out.exists() and not force:
        raise OutputError(f"{out} exists already", action="pass --force to replace it, or choose another name")
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    try:
        with output_errors(out):
            yield partial
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _batches(rows: Iterable[Exported]) -> Iterator[list[Exported]]:
    remaining = iter(rows)
    while batch := list(itertools.islice(remaining, BATCH)):
        yield batch


def _values(column: Column, batch: Sequence[Exported]) -> list[Any]:
    values = [column.read(row) for row in batch]
    if column.kind == "numbers":
        return [list(value.items()) for value in values]
    if column.kind == "cells":
        return [None if value is None else [{"row": row, "col": col} for row, col in value] for value in values]
    return values


def _type(pyarrow: Any, kind: str) -> Any:
    cell = pyarrow.struct([("row", pyarrow.int32()), ("col", pyarrow.int32())])
    types = {
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
        "text": pyarrow.string(),
        "time": pyarrow.timestamp("us", "UTC"),
        "numbers": pyarrow.map_(pyarrow.string(), pyarrow.float64()),
        "cells": pyarrow.list_(cell),
    }
    return types[kind]


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, (dict, tuple)):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise DependencyError("pyarrow is not installed", action="pip install 'judo-edge[parquet]'") from error
    return pyarrow, ParquetWriter
