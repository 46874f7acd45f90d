"""The file of a cell probe: safetensors with what export has to know, and where it comes from, in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save

from judo_edge.core import Floats
from judo_edge.files import write_atomic


def write_probe(
    path: Path, weight: Floats, bias: Floats, tap: int, origin: Mapping[str, str] | None = None, force: bool = False
) -> None:
    """Write weight (values, hidden) and bias (values,); the probe reads the RMS-normed stream after `tap` layers.

    Each row is one of the sub-cells under a visual token of the second image, in reading order. Raises OutputError.
    """
    kind = {"tap": str(tap), "normalisation": "rms", "image": "second"}
    write_atomic(path, save({"weight": weight, "bias": bias}, metadata={**kind, **(origin or {})}), force)
