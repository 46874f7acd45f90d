"""What the kept rows were made of, so that a pass can begin a few rows earlier than it must: at a multiple.

A runtime that compiles for every new shape then meets few of them. Rows that are read again come out the same.
"""

from __future__ import annotations

import numpy as np

from judo_edge.core import Floats, Ints


class RecentRows:
    """Embeddings and positions of the rows behind an origin, in the passes in which they came."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._origin = self._length = 0
        self._passes: list[tuple[Floats, Ints]] = []

    def start(self, length: int) -> None:
        """Forget everything; what comes next lies behind `length` rows that cannot be read again."""
        self._origin = self._length = length
        self._passes = []

    def append(self, embeds: Floats, positions: Ints) -> None:
        """Keep copies of rows (B, S, D) and of their positions (3, B, S)."""
        self._passes.append((embeds.copy(), positions.copy()))
        self._length += embeds.shape[1]

    def rewind(self, length: int) -> None:
        """Forget the rows from `length` on."""
        if length < self._origin:
            self.start(length)
        while self._length > length:
            embeds, positions = self._passes.pop()
            self._length -= embeds.shape[1]
            if self._length < length:
                kept = length - self._length
                self.append(embeds[:, :kept], positions[:, :, :kept])

    def num_behind(self, multiple: int) -> int:
        """Return how many rows there are behind the last multiple, counted from the origin."""
        return (self._length - self._origin) % multiple

    def before(self, count: int, embeds: Floats, positions: Ints) -> tuple[Floats, Ints]:
        """Return the last `count` rows and then the given ones."""
        if count == 0:
            return embeds, positions
        parts, missing = [(embeds, positions)], count
        for number in range(len(self._passes) - 1, -1, -1):
            if missing <= 0:
                break
            old, places = self._passes[number]
            parts.append((old[:, -missing:], places[:, :, -missing:]))
            missing -= old.shape[1]
        parts.reverse()
        return np.concatenate([one for one, _ in parts], axis=1), np.concatenate([one for _, one in parts], axis=2)
