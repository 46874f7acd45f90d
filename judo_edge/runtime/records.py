"""Verdicts as lines of JSON: one line per frame, on the disk before the next frame begins.

Knows the names of the keys. The pictures and the report are written elsewhere.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from judo_edge.core import CellMask, Decision, Event, Reply, Verdict
from judo_edge.files import output_error_from_os, output_errors

Record = dict[str, object]


def record_from_verdict(verdict: Verdict, mask_file: str | None = None) -> Record:
    """Return what a line says of a verdict; seconds per stage, margins and score in logits."""
    return {
        "frame_id": verdict.frame_id,
        "part": verdict.part,
        "path": verdict.path,
        "decision": verdict.decision.value,
        "reason": verdict.reason,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "judo": verdict.judo.value if verdict.judo else None,
        "margins": dict(verdict.margins),
        "evidence": dict(verdict.evidence),
        "mask_file": mask_file,
        "reply": _reply_record(verdict.reply),
        "reference_id": verdict.reference_id,
        "num_tokens": verdict.num_tokens,
        "num_held": verdict.num_held,
        "num_passes": verdict.num_passes,
        "num_drafted": verdict.num_drafted,
        "num_accepted": verdict.num_accepted,
        "seconds": {stage: round(seconds, 6) for stage, seconds in verdict.timing.seconds.items()},
    }


def record_from_event(event: Event) -> Record:
    """Return what a line says of an event: seconds since capture, decoder passes so far, and its value."""
    value: object = event.value
    if isinstance(value, Verdict):
        value = value.decision.value
    elif isinstance(value, Decision):
        value = value.value
    elif isinstance(value, CellMask):
        value = _mask_record(value)
    head = {"event": event.kind.value, "frame_id": event.frame_id, "seconds": round(event.seconds, 6)}
    return {**head, "num_passes": event.num_passes, "value": value}


def _reply_record(reply: Reply | None) -> Record | None:
    if reply is None:
        return None
    return {
        "text": reply.text,
        "mask": _mask_record(reply.mask),
        "think": reply.think,
        "answer": reply.answer,
        "problems": list(reply.problems),
    }


def _mask_record(mask: CellMask | None) -> Record | None:
    if mask is None:
        return None
    return {"rows": mask.rows, "cols": mask.cols, "cells": [list(cell) for cell in sorted(mask.cells)]}


class VerdictLog:
    """An append-only file of verdict lines; a line is there whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is made on entry."""
        self.path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> VerdictLog:
        """Make the file; OutputError when it exists or cannot be made."""
        with output_errors(self.path):
            self._file = self.path.open("xb", buffering=0)
        return self

    def append(self, record: Record) -> None:
        """Write one line through to the disk; on failure the file is cut back to its last whole line."""
        if self._file is None:
            raise RuntimeError("the log is used outside its `with` block")
        line = (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
        whole = self._file.tell()
        try:
            _write_all(self._file, line)
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(whole)
            self._file.seek(whole)
            raise output_error_from_os(error, self.path) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def _write_all(file: BinaryIO, content: bytes) -> None:
    """Write everything: an unbuffered file may take a part when the disk fills up."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]
