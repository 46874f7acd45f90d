"""Who decides: the calibrated rule of the part where one holds, else JUDO's own words. Both are always reported."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from judo_edge.bundle import Bundle
from judo_edge.calibration.decision import PartDecision
from judo_edge.core import Decision
from judo_edge.runtime.decisions import DecisionStore, applicable_decision, circumstances_of
from judo_edge.runtime.margins import MASK_MARGIN
from judo_edge.runtime.references import ReferenceStore


class Outcome(NamedTuple):
    """What is decided of a frame."""

    decision: Decision
    reason: str
    score: float | None
    """JUDO's margin at the first mask token, logits, or the calibrated rule's score, nats; larger is worse."""
    threshold: float | None
    """What the score was compared with; None when JUDO's words decided."""


class Decider:
    """Applies the calibrated decisions of a store to the frames of one bundle and engine."""

    def __init__(
        self, store: ReferenceStore | None, bundle: Bundle, engine_name: str, decisions: DecisionStore | None = None
    ) -> None:
        """Read nothing yet; a part's decision is read at its first frame, from `decisions` where they are given."""
        self._store, self._bundle, self._engine_name = store, bundle, engine_name
        self._decisions = decisions or (DecisionStore(store.folder) if store else None)
        self._of_part = lru_cache(maxsize=256)(self._applicable)

    def note(self, part: str) -> str:
        """Say why no calibrated decision is applied to a part; empty when one is."""
        return self._of_part(part)[1]

    def decided(self, part: str, judo: Decision, words: str, evidence: Mapping[str, float]) -> Outcome:
        """Decide on a frame of which JUDO says `judo` in `words`; see `calibration.decision` for what it raises.

        An invalid reply can make a part NOK by its other signs, but never OK.
        """
        rule, _ = self._of_part(part)
        if rule is None:
            return Outcome(judo, words, None if judo is Decision.NOT_DECIDABLE else evidence.get(MASK_MARGIN), None)
        found = rule.decide(evidence)
        decision = found.decision
        if judo is Decision.NOT_DECIDABLE and decision is Decision.OK:
            decision = judo
        return Outcome(decision, f"{found.reason}; JUDO: {words}", found.score, found.threshold)

    def _applicable(self, part: str) -> tuple[PartDecision | None, str]:
        if self._store is None or self._decisions is None:
            return None, "no store of references was given"
        used = [reference.reference_id for reference in self._store.references(part)]
        return applicable_decision(self._decisions, part, circumstances_of(self._bundle, self._engine_name, used))
