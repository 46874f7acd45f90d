"""An engine that counts what is asked of the one inside it: photos encoded, decoder passes and their rows.

The figures of a bench are counted here, at the engine, and not believed from the inspector.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from judo_edge.core import Floats, Ints
from judo_edge.runtime.engines.base import Decoded, Encoded, Engine, KeysValues


class PassKind(str, Enum):
    """What a decoder pass is for."""

    PREFILL = "prefill"
    """The first after a start: prompt and draft."""
    VERIFY = "verify"
    """A later one with more than one new position: a token and a draft."""
    DECODE = "decode"
    """A later one with one position."""


class Pass(NamedTuple):
    """One decoder pass; what it does for several prompts together is counted once."""

    kind: PassKind
    new: int
    """Positions that it appended, to all prompts together."""
    wanted: int
    """Positions whose logits were asked for, of all prompts together."""
    kept: int
    """Positions of each prompt that were there before."""


@dataclass
class Work:
    """What an engine was asked for since it was last read."""

    num_images: int = 0
    passes: list[Pass] = field(default_factory=list)


class CountingEngine:
    """An engine that notes its work; everything else is the inner engine's."""

    def __init__(self, inner: Engine) -> None:
        """Wrap an engine that is not entered yet."""
        self._inner = inner
        self._work = Work()
        self._is_fresh = True
        self._of_batch: KeysValues | None = None
        """What was read of several prompts: each of them may go on alone."""

    def __getattr__(self, name: str) -> Any:
        """Pass on what an engine has beyond the protocol."""
        return getattr(self._inner, name)

    def take(self) -> Work:
        """Return the work since the last call, and begin to count anew."""
        work, self._work = self._work, Work()
        return work

    @property
    def name(self) -> str:
        """Name in the registry."""
        return self._inner.name

    @property
    def digest(self) -> str:
        """Digest of the inner engine: embeddings are the same."""
        return self._inner.digest

    @property
    def length(self) -> int:
        """Number of positions kept."""
        return self._inner.length

    @property
    def max_batch(self) -> int:
        """Number of prompts that are read together at most."""
        return self._inner.max_batch

    def encode(self, patches: Floats) -> Encoded:
        """Encode photos and count them."""
        self._work.num_images += len(patches)
        return self._inner.encode(patches)

    def start(self, capacity: int, prefix: KeysValues | None = None, batch: int = 1) -> None:
        """Forget every position; the next pass is a prefill, unless one prompt of a batch goes on alone."""
        known = self._of_batch
        self._is_fresh = prefix is None or known is None or not np.may_share_memory(prefix, known)
        self._inner.start(capacity, prefix, batch)

    def keys_values(self, begin: int, end: int) -> KeysValues:
        """Return the inner engine's keys and values."""
        found = self._inner.keys_values(begin, end)
        self._of_batch = found if found.shape[3] > 1 else None
        return found

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        """Append positions and note the pass."""
        batch, new = inputs_embeds.shape[:2]
        kind = PassKind.PREFILL if self._is_fresh else PassKind.VERIFY if new > 1 else PassKind.DECODE
        self._work.passes.append(Pass(kind, batch * new, batch * rows.size, self._inner.length))
        self._is_fresh = False
        return self._inner.advance(inputs_embeds, positions, rows)

    def rewind(self, length: int) -> None:
        """Forget the positions from `length` on."""
        self._inner.rewind(length)

    def __enter__(self) -> CountingEngine:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)
