"""What a source of drafts is: it guesses the next tokens of a reply and says how sure it is.

A guess never changes a reply, only its time, so a source may be wrong as often as it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from judo_edge.core import CellMask


class Draft(NamedTuple):
    """Guessed next tokens."""

    ids: tuple[int, ...] = ()
    confidence: tuple[float, ...] = ()
    """For each token the probability that greedy decoding writes it, given that it wrote those before."""

    def __bool__(self) -> bool:
        """Tell whether anything is guessed: a named tuple of two fields is never empty by itself."""
        return bool(self.ids)

    def cut(self, length: int) -> Draft:
        """Return the first `length` tokens."""
        return Draft(self.ids[:length], self.confidence[:length])


@dataclass
class Evidence:
    """What is known of the present frame besides its reply; filled as it becomes known."""

    part: str
    marked: CellMask | None = None
    """Cells that stand out, by the newest evidence: the feature difference, then the cell probe."""


@dataclass
class Writing:
    """A reply as far as it is written, or as far as a draft supposes."""

    evidence: Evidence
    ids: list[int] = field(default_factory=list)
    text: str = ""

    @property
    def is_in_mask(self) -> bool:
        """Tell whether the next token belongs to a mask with cells."""
        _, _, body = self.text.partition("<seg>")
        return "(" in body and "</seg>" not in body

    def extended(self, ids: Sequence[int], text: str) -> Writing:
        """Return the writing with tokens supposed behind it."""
        return Writing(self.evidence, [*self.ids, *ids], self.text + text)


class DraftSource(Protocol):
    """One way of guessing."""

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    def propose(self, writing: Writing, room: int) -> Draft:
        """Guess at most `room` tokens that follow; an empty draft when it knows nothing."""
        ...

    def learn(self, writing: Writing) -> None:
        """Look at a finished reply."""
        ...
