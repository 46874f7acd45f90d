"""What the runtime asks of an engine: encode photos, keep a KV cache and advance it. Nothing about files or vendors.

Shapes: N images, P patches and T tokens per image, D hidden width, F feature width, B prompts read together, S new
positions of each, R wanted rows, V vocabulary, L layers, Hkv key/value heads of width hd.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from judo_edge.core import Floats, Ints

KeysValues = npt.NDArray[np.floating[Any]]
"""Keys and values of P positions, (P, L, 2, B, Hkv, hd), keys first; of one prompt B is 1."""


class Encoded(NamedTuple):
    """What the vision graph returns for N photos, row by row of each."""

    rows: Floats
    """(N, T, D) float32: what stands in the prompt."""
    features: Floats | None = None
    """(N, P, F) float32: what photos are compared by; None when the bundle's graph has none."""


class Decoded(NamedTuple):
    """What one decoder pass returns."""

    logits: Floats
    """(B, R, V) float32, before any softmax."""
    cells: Floats | None = None
    """(B, S, K) float32 logits of the dense cell probe, None when the graph has no probe."""


class Engine(Protocol):
    """A backend that runs the graphs of a bundle and keeps the keys and values of the prompts that are read together.

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

    @property
    def length(self) -> int:
        """Number of positions kept, the same for all prompts."""
        ...

    @property
    def max_batch(self) -> int:
        """How many prompts can be read together, at least 1."""
        ...

    def encode(self, patches: Floats) -> Encoded:
        """Return what the vision graph makes of (N, P, 1176) float32 patches."""
        ...

    def start(self, capacity: int, prefix: KeysValues | None = None, batch: int = 1) -> None:
        """Forget every position and make room for `capacity` of them in each of `batch` prompts.

        `prefix` (P, L, 2, B, Hkv, hd), float32 or the cache's own type, are the keys and values of the first P
        positions, which then count as kept; with one in place of B all prompts begin alike. The same object given again
        is not loaded again.
        """
        ...

    def keys_values(self, begin: int, end: int) -> KeysValues:
        """Return a copy (end - begin, L, 2, B, Hkv, hd) of kept positions, in the cache's own type.

        All or one prompt's of them given to `start` are what they were, bit for bit. ValueError when these positions
        are not kept.
        """
        ...

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        """Append S positions; each sees all that are kept and the new ones up to itself.

        `inputs_embeds` (B, S, D) float32; `positions` (3, B, S) int64; `rows` (R,) int64 indices into S whose logits
        are wanted, the same for all prompts.
        """
        ...

    def rewind(self, length: int) -> None:
        """Forget the positions from `length` on."""
        ...

    def __enter__(self) -> Engine:
        """Load what is needed to run."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        ...
