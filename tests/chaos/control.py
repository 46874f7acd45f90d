"""How the harness tells a station's processes what is to go wrong: a file in the run folder, read at every step.

`camera`: "", unplugged, frozen, corrupt, hang. `engine`: "", raise, report, hang, stuck (for good). `clock_seconds`:
what the clock on the wall is wrong by.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "chaos.json"
TRUTH = "truth.jsonl"


def write_control(run_folder: Path, **changes: Any) -> None:
    """Change what goes wrong."""
    content = {**read_control(run_folder), **changes}
    partial = run_folder / f"{NAME}.partial"
    partial.write_text(json.dumps(content))
    partial.replace(run_folder / NAME)


def read_control(run_folder: Path) -> dict[str, Any]:
    """Return what is to go wrong."""
    try:
        content: dict[str, Any] = json.loads((run_folder / NAME).read_text())
    except FileNotFoundError:
        return {}
    return content


def note_truth(run_folder: Path, **truth: Any) -> None:
    """Write down what was really there, beside the station."""
    with (run_folder / TRUTH).open("a") as stream:
        stream.write(json.dumps(truth) + "\n")


def read_truth(run_folder: Path) -> list[dict[str, Any]]:
    """Return all that was written down; a line that a kill cut off is left out."""
    path = run_folder / TRUTH
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]
