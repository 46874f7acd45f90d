"""The order of a bench: in every round each bundle sees the same photos with drafts, without, and at its limit.

What is compared is measured frame by frame in turn, so that a machine that slows down slows everything. Who comes first
changes every round; the limit, which needs a reply, stands between the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

from judo_edge.bench.lane import Lane, Looked
from judo_edge.bench.limit import Limited
from judo_edge.bench.sources import Parts, Shot
from judo_edge.bench.workloads import Slot

Shots = tuple[Shot, ...]
"""Photos that are captured together: one for each camera."""


class Rival(Protocol):
    """Another runtime that inspects the same photos in turn."""

    name: str

    def look(self, shots: Shots) -> float:
        """Return the seconds from capture to the last reply."""
        ...


class Round(NamedTuple):
    """What a bundle did with the same photos in every way."""

    frame_ids: tuple[str, ...]
    num_repeats: int
    """Photos that the stream has shown before."""
    drafted: Looked
    greedy: Looked
    limits: tuple[Limited, ...] | None
    """None when a photo had no reply."""


@dataclass
class Rounds:
    """The measured rounds of every contestant; warm-up is left out."""

    lanes: list[list[Round]]
    rivals: dict[str, list[float]] = field(default_factory=dict)
    """Seconds."""


def stream(parts: Parts, slots: Iterator[Slot], num_cameras: int = 1) -> Iterator[Shots]:
    """Yield the photos of each moment, one for each camera."""
    while batch := tuple(islice(slots, num_cameras)):
        yield tuple(parts.shot(slot) for slot in batch)


def measured_rounds(
    lanes: Sequence[Lane],
    moments: Iterator[Shots],
    num_rounds: int,
    warm_up: int = 0,
    rivals: Sequence[Rival] = (),
    progress: Callable[[int], None] = lambda _: None,
    pause: float = 0.0,
) -> Rounds:
    """Run `warm_up` and then `num_rounds` rounds; `progress` is told how many are done.

    `pause` seconds go by before each turn, as between the parts of a line: threads of the one before, which wait for
    more work by spinning, take its cores from whoever follows at once.
    """
    kept = Rounds([[] for _ in lanes], {rival.name: [] for rival in rivals})
    for number, shots in enumerate(islice(moments, warm_up + num_rounds)):
        for index in _turned(len(lanes) + len(rivals), number):
            time.sleep(pause)
            if index < len(lanes):
                done = _round(lanes[index], shots, drafts_first=number % 2 == 0 and lanes[index].replay is None)
                kept.lanes[index].extend([done] if number >= warm_up else [])
            else:
                rival = rivals[index - len(lanes)]
                seconds = rival.look(shots)
                kept.rivals[rival.name].extend([seconds] if number >= warm_up else [])
        progress(number + 1)
    return kept


def _turned(count: int, number: int) -> list[int]:
    """Return 0 to count - 1, beginning one further every second round: so who follows whom changes too."""
    begin = number // 2 % count
    return [*range(begin, count), *range(begin)]


def _round(lane: Lane, shots: Shots, drafts_first: bool) -> Round:
    if drafts_first:
        drafted = lane.look(shots, "on")
        limits = lane.limit(shots, drafted)
        return Round(*_known(shots), drafted, lane.look(shots, "off"), limits)
    greedy = lane.look(shots, "off")
    if lane.replay:
        lane.replay.ids = greedy.inspections[0].ids
    limits = lane.limit(shots, greedy)
    return Round(*_known(shots), lane.look(shots, "on"), greedy, limits)


def _known(shots: Shots) -> tuple[tuple[str, ...], int]:
    """Return what is kept of photos: pixels are not."""
    return tuple(shot.name for shot in shots), sum(shot.is_repeat for shot in shots)
