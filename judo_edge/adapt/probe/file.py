"""The file of a cell probe: safetensors with what export has to know, and where it comes from, in its metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from judo_edge.calibration.work import HeldArray
from judo_edge.calibration.writer import write_arrays
from judo_edge.core import Floats
from judo_edge.errors import OutputError
from judo_edge.files import output_errors


def write_probe(
    path: Path, weight: Floats, bias: Floats, tap: int, origin: Mapping[str, str] | None = None, force: bool = False
) -> None:
    """Write weight (values, hidden) and bias (values,); the probe reads the RMS-normed stream after `tap` layers.

    Each row is one of the sub-cells under a visual token of the second image, in reading order. The same probe gives
    the same bytes. Raises OutputError.
    """
    check_absent(path, force)
    kind = {"tap": str(tap), "normalisation": "rms", "image": "second"}
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with output_errors(path):
            arrays = {"weight": HeldArray(weight), "bias": HeldArray(bias)}
            write_arrays(partial, arrays, {**kind, **(origin or {})})
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_absent(path: Path, force: bool) -> None:
    """Raise OutputError when a probe would replace another one unasked."""
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", action="pass --force to replace it, or choose another name")
