"""The stages of a frame and their seconds, by a monotonic clock. Knows nothing of what a stage does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from judo_edge.runtime.decoder import Pass

STAGES = ("load", "align", "patches", "vision", "reference", "features", "prefill", "verify", "decode", "parse")
"""In order. `load` is timed by the run that reads the photos; `prefill` is the pass over prompt and draft, `verify` the
later passes with a draft, `decode` the passes without one and all that is done with tokens."""


@dataclass
class Stopwatch:
    """Seconds per stage; a stage that fails is timed too."""

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under a name."""
        started = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - started

    def split(self, passes: Iterable[Pass]) -> None:
        """Give the time of the checked passes, which was measured as `decode`, a stage of its own."""
        checked = sum(run.seconds for run in passes if run.kind == "verify")
        self.seconds["verify"] = checked
        self.seconds["decode"] = self.seconds.pop("decode") - checked
