"""Which frames of several cameras are inspected together: those that wait, and those that come soon enough.

The policy is the oldest frame's deadline. A batch grows while that frame's verdict still comes in time, judged by how
long batches of that size have taken; it waits for more at most `max_wait`. When the deadline cannot be kept any more,
all that waits is taken: so the line catches up fastest. Knows no model.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty
from typing import Annotated, Protocol

from pydantic import Field

from judo_edge.config import Frozen
from judo_edge.core import Frame

NUM_REMEMBERED = 16
"""Batches of one size whose slowest is what the next is expected to take: a deadline is kept by more than the mean."""
_NS = 1e9


class Patience(Frozen):
    """How long frames may wait for each other."""

    max_batch: Annotated[int, Field(ge=1)]
    max_wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds that a batch waits for more frames; 0 takes what waits already."""
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds from a frame's capture to its verdict; None when nothing depends on it."""


class Closing(str, Enum):
    """Why a batch did not grow."""

    FULL = "full"
    WAITED = "no other frame came in time"
    DEADLINE = "the oldest frame could not wait"
    LATE = "the oldest frame was late; all that waited was taken"
    ENDED = "the cameras have ended"


class FrameQueue(Protocol):
    """What cameras put their frames into, as `queue.Queue`; None says that no more will come."""

    def get(self, block: bool = True, timeout: float | None = None) -> Frame | None:
        """Remove and return the next frame; `queue.Empty` when none comes within `timeout` seconds."""
        ...


class BatchTimes:
    """Seconds that batches of each size have taken."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seconds: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=NUM_REMEMBERED))

    def observe(self, size: int, seconds: float) -> None:
        """Take in a finished batch."""
        self._seconds[size].append(seconds)

    def expected(self, size: int) -> float | None:
        """Return the seconds that a batch is expected to take; None when no batch was seen.

        For a size that was not seen, the next smaller one as if batching gained nothing, else the next larger one.
        """
        smaller = [known for known in self._seconds if known <= size]
        if smaller:
            return max(self._seconds[max(smaller)]) * size / max(smaller)
        return max(self._seconds[min(self._seconds)]) if self._seconds else None


@dataclass
class BatchCounts:
    """What was decided since the first frame."""

    sizes: Counter[int] = field(default_factory=Counter)
    """Batches of each number of frames."""
    closings: Counter[Closing] = field(default_factory=Counter)
    """Batches that ended for each reason."""

    def add(self, size: int, closing: Closing) -> None:
        """Count a batch."""
        self.sizes[size] += 1
        self.closings[closing] += 1


class Gatherer:
    """Yields the frames of a queue in batches, and learns how long the one who takes them needs for each."""

    def __init__(self, queue: FrameQueue, patience: Patience, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Take frames from `queue`; `clock` is that of `Frame.captured_ns`, nanoseconds."""
        self.times, self.counts = BatchTimes(), BatchCounts()
        self._queue, self._patience, self._clock = queue, patience, clock

    def __iter__(self) -> Iterator[list[Frame]]:
        """Yield batches until the queue gives None; what is done with one before the next is asked for is its time."""
        closing = Closing.FULL
        while closing is not Closing.ENDED and (first := self._queue.get()) is not None:
            batch, closing = self._batch(first)
            self.counts.add(len(batch), closing)
            started = self._clock()
            yield batch
            self.times.observe(len(batch), (self._clock() - started) / _NS)

    def _batch(self, first: Frame) -> tuple[list[Frame], Closing]:
        batch, begun = [first], self._clock()
        while len(batch) < self._patience.max_batch:
            found = self._next(batch, begun)
            if isinstance(found, Closing):
                return batch, found
            batch.append(found)
        return batch, Closing.FULL

    def _next(self, batch: list[Frame], begun: int) -> Frame | Closing:
        """Return another frame for the batch, or why there is none."""
        left = self._patience.max_wait - (self._clock() - begun) / _NS
        timeout, closing = left, Closing.WAITED
        if self._patience.deadline is not None:
            slack = self._slack(batch, len(batch) + 1)
            if self._slack(batch, len(batch)) < 0:
                timeout, closing = 0.0, Closing.LATE
            elif slack < 0:
                return Closing.DEADLINE
            elif slack < left:
                timeout, closing = slack, Closing.DEADLINE
        try:
            found = self._queue.get(timeout=max(0.0, timeout))
        except Empty:
            return closing
        return Closing.ENDED if found is None else found

    def _slack(self, batch: list[Frame], size: int) -> float:
        """Return the seconds that the oldest frame can wait before a batch of `size` begins; 0 when none was seen."""
        expected = self.times.expected(size)
        if expected is None or self._patience.deadline is None:
            return 0.0
        age = (self._clock() - min(frame.captured_ns for frame in batch)) / _NS
        return self._patience.deadline - age - expected
