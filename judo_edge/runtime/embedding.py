"""One photo as the vision graph sees it: what the prompt takes, and what photos are compared by. Knows no files."""

from __future__ import annotations

from dataclasses import dataclass

from judo_edge.core import Floats


@dataclass(frozen=True)
class Embedding:
    """The outputs of the vision graph for one photo."""

    rows: Floats
    """(T, D) float32: what stands in the prompt, token by token, row by row of the photo."""
    features: Floats | None = None
    """(P, F) float32, one for each patch, row by row of the photo; None when the bundle's graph has none."""
