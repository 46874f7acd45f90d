"""What the events of a frame must be like, and when its milestones came. Memory does not grow with the frames.

The rule: kinds come in the order of `EventKind`, each but `cells` at most once; time and passes never go back; every
frame ends in exactly one verdict, which is the one that was returned; nothing comes after it or from another frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from judo_edge.core import Event, EventKind, Verdict

MILESTONES = {"first_verdict": EventKind.EARLY_VERDICT, "mask": EventKind.MASK, "answer": EventKind.ANSWER}
"""The times that a bench reports, by the event that marks them."""
_RANK = {kind: rank for rank, kind in enumerate(EventKind)}
_KEPT = 5


def violations(frame_id: str, events: Sequence[Event], verdict: Verdict) -> tuple[str, ...]:
    """Return in words what is wrong with the events of one frame; empty when all is as it must be."""
    found = [f"an event of frame {event.frame_id}" for event in events if event.frame_id != frame_id]
    found += [problem for pair in pairwise(events) for problem in _between(*pair)]
    ends = [event for event in events if event.kind is EventKind.VERDICT]
    if len(ends) != 1:
        found.append(f"{len(ends)} verdicts")
    elif ends[0].value != verdict:
        found.append("another verdict than the one returned")
    if verdict.frame_id != frame_id:
        found.append(f"the verdict of frame {verdict.frame_id}")
    return tuple(f"frame {frame_id}: {problem}" for problem in found)


def _between(before: Event, after: Event) -> list[str]:
    """Compare neighbours."""
    found = []
    is_repeat = after.kind is before.kind and after.kind is not EventKind.CELLS
    if _RANK[after.kind] < _RANK[before.kind] or is_repeat:
        found.append(f"{after.kind.value!r} after {before.kind.value!r}")
    if after.seconds < before.seconds:
        found.append(f"{after.kind.value!r} is earlier than the event before it")
    if after.num_passes < before.num_passes:
        found.append(f"passes go back from {before.num_passes} to {after.num_passes}")
    return found


def milestones(events: Sequence[Event]) -> dict[str, float]:
    """Return the seconds since capture of each milestone that was reached."""
    times = {event.kind: event.seconds for event in events}
    return {name: times[kind] for name, kind in MILESTONES.items() if kind in times}


@dataclass
class EventTally:
    """Frames, losses and violations of a run."""

    num_frames: int = 0
    num_lost: int = 0
    """Frames without a verdict among their events."""
    num_violations: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few violations."""

    def add(self, frame_id: str, events: Sequence[Event], verdict: Verdict) -> None:
        """Check one frame."""
        found = violations(frame_id, events, verdict)
        self.num_frames += 1
        self.num_lost += all(event.kind is not EventKind.VERDICT for event in events)
        self.num_violations += len(found)
        self.examples += found[: _KEPT - len(self.examples)]
