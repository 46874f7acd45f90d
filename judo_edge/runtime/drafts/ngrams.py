"""Continuations of token sequences by the longest context seen before: an n-gram table with back-off."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence

from judo_edge.runtime.drafts.base import Draft

ORDERS = (16, 8, 5, 3, 2, 1)
"""Lengths of context that are looked up, longest first."""
START = -1
"""Stands before the first token of every sequence."""
MIN_CONFIDENCE = 0.02
"""A guess ends where its tokens are less likely than this together."""
MIN_SIGHTINGS = 2
"""Sequences in which a context must have been seen for what follows to count as certain."""
DOUBT = 1.0
"""Sightings of another continuation that a context of one token is credited with; longer contexts leave less doubt."""


class NgramTable:
    """Counts what followed each context in the most recent sequences."""

    def __init__(self, max_sequences: int = 256) -> None:
        """Keep at most `max_sequences`; the oldest is forgotten first."""
        self._sequences: deque[tuple[int, ...]] = deque()
        self._max_sequences = max_sequences
        self._next: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)

    def __len__(self) -> int:
        """Count the sequences kept."""
        return len(self._sequences)

    @property
    def sequences(self) -> tuple[tuple[int, ...], ...]:
        """Return the sequences kept, oldest first."""
        return tuple(self._sequences)

    def add(self, ids: Sequence[int]) -> None:
        """Count a whole sequence, its end token included."""
        self._sequences.append(tuple(ids))
        self._count(self._sequences[-1], 1)
        while len(self._sequences) > self._max_sequences:
            self._count(self._sequences.popleft(), -1)

    def continuation(self, ids: Sequence[int], room: int) -> Draft:
        """Return the likeliest continuation of a sequence's beginning, with the probability of each token."""
        known = [START, *ids]
        confidence: list[float] = []
        together = 1.0
        while len(confidence) < room:
            token, share = self._likeliest(known)
            together *= share
            if together < MIN_CONFIDENCE:
                break
            known.append(token)
            confidence.append(share)
        return Draft(tuple(known[len(ids) + 1 :]), tuple(confidence))

    def certain(self, ids: Sequence[int], room: int) -> tuple[int, ...]:
        """Return the tokens that follow without any alternative, in a context seen in several sequences."""
        known = [START, *ids]
        while len(known) - 1 - len(ids) < room:
            _, found = self._followers(known, MIN_SIGHTINGS)
            if len(found) != 1:
                break
            known += found
        return tuple(known[len(ids) + 1 :])

    def _followers(self, known: list[int], sightings: int = 1) -> tuple[int, Counter[int]]:
        """Return the longest context that was seen so often, as its order, and what followed it."""
        for order in ORDERS:
            found = self._next.get(tuple(known[-order:]))
            if found and found.total() >= sightings:
                return order, found
        return 1, Counter()

    def _likeliest(self, known: list[int]) -> tuple[int, float]:
        order, found = self._followers(known)
        if not found:
            return START, 0.0
        token, count = max(found.items(), key=lambda item: item[1])
        return token, count / (found.total() + DOUBT / order)

    def _count(self, ids: tuple[int, ...], by: int) -> None:
        known = (START, *ids)
        for end in range(1, len(known)):
            for context in {known[max(0, end - order) : end] for order in ORDERS}:
                found = self._next[context]
                found[known[end]] += by
                if found[known[end]] <= 0:
                    del found[known[end]]
                if not found:
                    del self._next[context]
