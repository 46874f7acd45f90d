"""The journal of an export: lines of JSON, first its inputs, then one whenever a run of tensors is safe on the disk.

Knows what a line means and how much of a torn file counts; `resume` writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Journal:
    """What an unfinished export has done so far."""

    inputs: dict[str, str]
    """Name of an input -> what identifies its content."""
    created: str
    """When it was begun: the manifest's date, so that going on changes no byte."""
    total: int
    """Bytes of weights in the bundle."""
    written: dict[str, int] = field(default_factory=dict)
    """File -> forms, from its first one, that are complete and flushed to the disk."""
    done: int = 0
    """Bytes of weights in those forms."""
    hashes: dict[str, str] = field(default_factory=dict)
    """Source file -> SHA-256."""

    def add(self, line: dict[str, Any]) -> None:
        """Take one line after the first; KeyError or TypeError for a line of another kind."""
        if "sha256" in line:
            self.hashes[str(line["source"])] = str(line["sha256"])
        else:
            self.written[str(line["file"])], self.done = int(line["forms"]), int(line["done"])


def parsed_journal(path: Path) -> tuple[Journal | None, int]:
    """Return a journal and the bytes of its complete lines; None when nothing was begun."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return None, 0
    journal, size = None, 0
    for line in lines:
        try:
            content = json.loads(line)
            if journal is None:
                journal = Journal(dict(content["inputs"]), str(content["created"]), int(content["total"]))
            else:
                journal.add(content)
        except (ValueError, KeyError, TypeError):
            break
        size += len(line) + 1
    return journal, size
