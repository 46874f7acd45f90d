"""Composes drafts: asks every source, takes the most promising guess, and goes on behind it as long as that pays.

A guessed token costs a row of a pass and saves a pass if it is reached and right. So a draft ends where the chance of
that falls below a row's share of a pass. The record of each source corrects what it says of itself: one that stops
paying is cooled down, and comes back as its failures are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from judo_edge.runtime.decoder import Pass
from judo_edge.runtime.drafts.base import Draft, DraftSource, Evidence, Writing
from judo_edge.runtime.drafts.costs import PassCosts
from judo_edge.runtime.drafts.text import TextDrafts

SURE = 0.995
"""No guess is trusted more."""
KEPT = 0.9
"""Share of a record that is kept from reply to reply."""
PRIOR = 4.0
"""Guesses that a source is credited with when it has no record."""


@dataclass
class Record:
    """How a source's guesses did, against what it said of them."""

    expected: float = 0.0
    accepted: float = 0.0
    num_drafted: int = 0
    num_accepted: int = 0

    @property
    def reliability(self) -> float:
        """Return the factor by which the source's own confidence has to be corrected."""
        return (self.accepted + PRIOR) / (self.expected + PRIOR)

    def fade(self) -> None:
        """Forget a little."""
        self.expected *= KEPT
        self.accepted *= KEPT

    def corrected(self, confidence: float) -> float:
        """Return what a confidence of the source is worth."""
        return min(SURE, confidence * self.reliability)


class _Guess(NamedTuple):
    token: int
    record: str
    """Of the source, inside a mask or outside: one may know the words and not the cells."""
    confidence: float
    """As the source said it."""


@dataclass
class Attempt:
    """One reply as far as it is written, and the draft that waits to be compared with it."""

    writing: Writing
    pending: tuple[_Guess, ...] = ()
    begin: int = 0
    """Tokens that were written before the draft."""


@dataclass
class Drafter:
    """Drafts for one reply at a time; several may be under way, each in an `Attempt` of its own."""

    sources: Sequence[DraftSource]
    texts: TextDrafts
    end_tokens: frozenset[int]
    costs: PassCosts = field(default_factory=PassCosts)
    records: dict[str, Record] = field(default_factory=dict)
    attempt: Attempt = field(default_factory=lambda: Attempt(Writing(Evidence(""))))
    """The reply under way."""

    def begin(self, evidence: Evidence) -> None:
        """Start a reply; its `attempt` is given to `resume` when another one was started in between."""
        self.attempt = Attempt(Writing(evidence))

    def resume(self, attempt: Attempt) -> None:
        """Go on with a reply that was begun before."""
        self.attempt = attempt

    def observe(self, token: int) -> None:
        """Take in a written token."""
        writing = self.attempt.writing
        writing.ids.append(token)
        if token not in self.end_tokens:
            writing.text += self.texts.text_of((token,))

    def next_draft(self, room: int) -> tuple[int, ...]:
        """Return guesses of the next tokens, at most `room`; the last ones are settled by what was written since."""
        self._settle()
        now = self.attempt
        now.begin, now.pending = len(now.writing.ids), self._composed(now.writing, room)
        return tuple(guess.token for guess in now.pending)

    def finish(self, passes: Iterable[Pass]) -> None:
        """End a reply: every source may learn from it."""
        self._settle()
        for run in passes:
            self.costs.observe(run.num_new * run.num_prompts, run.seconds * run.num_prompts)
        for record in self.records.values():
            record.fade()
        for source in self.sources:
            source.learn(self.attempt.writing)

    def _composed(self, supposed: Writing, room: int) -> tuple[_Guess, ...]:
        least, chance = self.costs.row_share, 1.0
        guesses: list[_Guess] = []
        while len(guesses) < room:
            record, draft = self._best(supposed, room - len(guesses))
            for token, confidence in zip(*draft, strict=True):
                chance *= self._record(record).corrected(confidence)
                if chance < least:
                    return tuple(guesses)
                guesses.append(_Guess(token, record, confidence))
                if token in self.end_tokens:
                    return tuple(guesses)
            if not draft:
                break
            supposed = supposed.extended(draft.ids, self.texts.text_of(draft.ids))
        return tuple(guesses)

    def _best(self, supposed: Writing, room: int) -> tuple[str, Draft]:
        """Return the guess of which most tokens are to be expected right."""
        place = " in a mask" if supposed.is_in_mask else ""
        drafts = [(f"{source.name}{place}", source.propose(supposed, room).cut(room)) for source in self.sources]
        return max(drafts, key=lambda item: self._expected(*item), default=("", Draft()))

    def _expected(self, name: str, draft: Draft) -> float:
        record = self._record(name)
        chances: list[float] = []
        for confidence in draft.confidence:
            chances.append(record.corrected(confidence) * (chances[-1] if chances else 1.0))
        return sum(chances)

    def _settle(self) -> None:
        """Compare the last draft with what was written, up to its first wrong token."""
        now = self.attempt
        for guess, token in zip(now.pending, now.writing.ids[now.begin :], strict=False):
            record = self._record(guess.record)
            record.expected += guess.confidence
            record.num_drafted += 1
            if guess.token != token:
                break
            record.accepted += 1
            record.num_accepted += 1
        now.pending = ()

    def _record(self, name: str) -> Record:
        return self.records.setdefault(name, Record())
