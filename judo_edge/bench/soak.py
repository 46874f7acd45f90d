"""A long run: whether memory grows, and whether a frame or an event is lost. Its own memory does not grow with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from judo_edge.bench.events import EventTally
from judo_edge.bench.lane import Lane, Looked
from judo_edge.bench.report import Setting
from judo_edge.bench.rounds import Shots
from judo_edge.bench.statistics import Histogram, RunningLine
from judo_edge.config import Frozen
from judo_edge.core import Decision
from judo_edge.machine import resident_memory

_MB = 1e6


class SoakReport(Frozen):
    """What a long run came to; times in milliseconds, memory in units of 1,000,000 bytes."""

    setting: Setting
    bundle: str
    digest: str
    frames: int
    lost: int
    """Frames without a verdict among their events."""
    event_violations: int
    examples: tuple[str, ...]
    """The first few violations."""
    undecidable: int
    passes_per_part: float
    vision_passes_per_part: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    rss_slope_mb_per_1000: float | None
    """Slope of resident memory over the second half of the run, least squares, per 1,000 frames."""
    rss_first_mb: float | None
    """After the first moment."""
    rss_last_mb: float | None

    @property
    def is_orderly(self) -> bool:
        """Tell whether nothing was lost or out of order."""
        return not (self.lost or self.event_violations)


class SoakTally:
    """Running figures of a long run."""

    def __init__(self, num_frames: int, memory: Callable[[], int] = lambda: resident_memory()[0]) -> None:
        """Say how long the run will be; `memory` returns resident bytes, 0 where the system does not say."""
        self.events, self.latency, self.line = EventTally(), Histogram(), RunningLine()
        self.undecidable = self.num_passes = self.num_images = 0
        self.rss: list[float] = []
        """First and last resident memory, MB."""
        self._num_frames, self._memory = num_frames, memory

    def add(self, looked: Looked, frame_ids: tuple[str, ...]) -> None:
        """Take in what was captured together."""
        for name, events, inspection in zip(frame_ids, looked.events, looked.inspections, strict=True):
            self.events.add(name, events, inspection.verdict)
            self.undecidable += inspection.verdict.decision is Decision.NOT_DECIDABLE
        self.latency.add(looked.seconds * 1e3)
        self.num_passes += len(looked.work.passes)
        self.num_images += looked.work.num_images
        if resident := self._memory():
            self._add_memory(resident / _MB)

    def _add_memory(self, megabytes: float) -> None:
        done = self.events.num_frames
        self.rss = [*self.rss[:1], megabytes]
        if 2 * done > self._num_frames:
            self.line.add(done / 1000, megabytes)


def soak(lane: Lane, moments: Iterator[Shots], setting: Setting, progress: Callable[[int], None]) -> SoakReport:
    """Run the setting's rounds with drafts and nothing besides; `progress` is told how many are done."""
    tally = SoakTally(setting.rounds * setting.cameras)
    for number, shots in enumerate(islice(moments, setting.rounds)):
        tally.add(lane.look(shots), tuple(shot.name for shot in shots))
        progress(number + 1)
    return _report(lane, tally, setting)


def _report(lane: Lane, tally: SoakTally, setting: Setting) -> SoakReport:
    frames = tally.events.num_frames
    return SoakReport(
        setting=setting,
        bundle=lane.bundle.manifest.name,
        digest=lane.bundle.digest,
        frames=frames,
        lost=tally.events.num_lost,
        event_violations=tally.events.num_violations,
        examples=tuple(tally.events.examples),
        undecidable=tally.undecidable,
        passes_per_part=tally.num_passes / frames,
        vision_passes_per_part=tally.num_images / frames,
        p50_ms=tally.latency.quantile(0.5),
        p99_ms=tally.latency.quantile(0.99),
        max_ms=tally.latency.max,
        rss_slope_mb_per_1000=tally.line.slope,
        rss_first_mb=tally.rss[0] if tally.rss else None,
        rss_last_mb=tally.rss[-1] if tally.rss else None,
    )
