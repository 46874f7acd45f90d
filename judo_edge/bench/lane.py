"""One bundle under test: the same engine with drafts, without, and at its limit."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from judo_edge.bench.counting import CountingEngine, Work
from judo_edge.bench.energy import EnergyMeter
from judo_edge.bench.limit import Limit, Limited
from judo_edge.bench.replay import ReplaySource
from judo_edge.bench.sources import Shot, ShotReferences
from judo_edge.bundle import Bundle
from judo_edge.core import Event
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector

Drafts = Literal["on", "off"]


@dataclass(frozen=True)
class Looked:
    """What came of photos that were captured together."""

    seconds: float
    """From capture to the last verdict."""
    inspections: tuple[Inspection, ...]
    events: tuple[tuple[Event, ...], ...]
    """Of each photo."""
    work: Work
    joules: float | None


class Lane:
    """A bundle on its engine. Nothing is shared between the inspectors but the engine."""

    def __init__(
        self,
        bundle: Bundle,
        engine: CountingEngine,
        meter: EnergyMeter,
        accept_failed: Collection[str] = (),
        replay: ReplaySource | None = None,
    ) -> None:
        """Prepare both inspectors; the engine must be entered. BundleError for a bundle that failed its gates.

        `replay` takes the place of all sources of drafts.
        """
        self.bundle, self.engine, self._meter = bundle, engine, meter
        self._references = ShotReferences()
        self._inspectors = {drafts: self._inspector(drafts, accept_failed) for drafts in _BOTH}
        self.replay = replay
        if replay and (drafter := self._inspectors["on"].drafter):
            drafter.sources = [replay]
        self._limit = Limit(bundle, engine, self._inspectors["on"])

    def look(self, shots: Sequence[Shot], drafts: Drafts = "on") -> Looked:
        """Inspect photos that are captured at the same time, together."""
        inspector = self._inspectors[drafts]
        events: dict[str, list[Event]] = {shot.name: [] for shot in shots}
        self._references.expect(shots)
        self.engine.take()
        joules, started = self._meter.joules(), time.monotonic_ns()
        frames = [shot.frame(started) for shot in shots]
        inspections = tuple(inspector.look_together(frames, lambda event: events[event.frame_id].append(event)))
        seconds = (time.monotonic_ns() - started) * 1e-9
        used = _difference(self._meter.joules(), joules)
        return Looked(seconds, inspections, tuple(map(tuple, events.values())), self.engine.take(), used)

    def limit(self, shots: Sequence[Shot], looked: Looked) -> tuple[Limited, ...] | None:
        """Return the limit of each photo given the replies to them; None when a photo has no reply."""
        replies = [inspection.ids for inspection in looked.inspections]
        if not all(replies):
            return None
        return tuple(self._limit.measure(shot, ids) for shot, ids in zip(shots, replies, strict=True))

    @property
    def prompt_tokens(self) -> int:
        """Return the length of the prompt."""
        return len(self._inspectors["on"].prompt)

    def _inspector(self, drafts: Drafts, accept_failed: Collection[str]) -> Inspector:
        return Inspector(
            self.bundle, self.engine, self._references, accept_failed=accept_failed, is_drafting=drafts == "on"
        )


_BOTH: tuple[Drafts, Drafts] = ("on", "off")


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
