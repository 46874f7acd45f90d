"""What the runtime asks of an engine: encode photos, advance the decoder. Nothing about files or vendors.

Shapes: N images, P patches and T tokens per image, D hidden width, S new and C cached positions, R wanted rows,
V vocabulary, L layers, Hkv key/value heads of width hd.
"""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple, Protocol

from judo_edge.core import Floats, Ints


class Decoded(NamedTuple):
    """What one decoder pass returns."""

    logits: Floats
    """(1, R, V) float32, before any softmax."""
    present: Floats
    """(S, L, 2, 1, Hkv, hd) float32: keys and values of the new positions only."""
    cells: Floats | None = None
    """(1, S, K) float32 logits of the dense cell probe, None when the graph has no probe."""


class Engine(Protocol):
    """A backend that runs the two graphs of a bundle.

    An engine is opened by `with`; nothing is loaded before. Returned arrays may be reused by the next call, so a
    caller that keeps one copies it. Every failure is raised as EngineError.
    """

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 hex of what decides the embeddings: the graph, its weights, the backend and its version."""
        ...

    def encode(self, patches: Floats) -> Floats:
        """Return (N, T, D) float32 embeddings of (N, P, 1176) float32 patches."""
        ...

    def decode(self, inputs_embeds: Floats, positions: Ints, mask: Floats, past: Floats, rows: Ints) -> Decoded:
        """Advance the decoder by S positions.

        `inputs_embeds` (1, S, D); `positions` (3, 1, S); `mask` (1, 1, S, C + S) additive; `past`
        (C, L, 2, 1, Hkv, hd); `rows` (R,) indices into S whose logits are wanted.
        """
        ...

    def __enter__(self) -> Engine:
        """Load what is needed to run."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        ...
