"""Batches of frames by a deadline, under a clock that only the test moves."""

from __future__ import annotations

from queue import Empty, Queue

import numpy as np
import pytest
from pydantic import ValidationError

from judo_edge.core import Frame
from judo_edge.runtime.gathering import NUM_REMEMBERED, BatchTimes, Closing, Gatherer, Patience

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Line:
    """Cameras whose frames come at given seconds; waiting moves the clock, nothing else does but `work`."""

    def __init__(self, *arrivals: float, begin: float = 0.0) -> None:
        self.now = begin
        self.coming = [(at, Frame(f"f{number}", "p", IMAGE, round(at * 1e9))) for number, at in enumerate(arrivals)]
        self.waits: list[float] = []

    def clock(self) -> int:
        return round(self.now * 1e9)

    def get(self, block: bool = True, timeout: float | None = None) -> Frame | None:
        """Give the next frame when it comes within the time; None after the last."""
        if timeout is not None:
            self.waits.append(timeout)
        if not self.coming:
            if timeout is None:
                return None
            self.now += timeout
            raise Empty
        at, frame = self.coming[0]
        if timeout is not None and at > self.now + timeout + 1e-9:
            self.now += timeout
            raise Empty
        self.now = max(self.now, at)
        del self.coming[0]
        return frame


def run(line: Line, patience: Patience, seconds: dict[int, float]) -> tuple[Gatherer, list[list[str]]]:
    """Inspect everything; a batch of a size takes the given seconds."""
    gatherer, batches = Gatherer(line, patience, line.clock), []
    for batch in gatherer:
        batches.append([frame.frame_id for frame in batch])
        line.now += seconds[len(batch)]
    return gatherer, batches


EVERY = {size: 0.1 + 0.02 * size for size in range(1, 9)}


def test_what_waits_is_taken_and_nothing_is_waited_for() -> None:
    gatherer, batches = run(Line(0, 0, 0, 0.5, begin=0.01), Patience(max_batch=8), EVERY)
    assert batches == [["f0", "f1", "f2"], ["f3"]]
    assert gatherer.counts.sizes == {3: 1, 1: 1} and gatherer.counts.closings == {Closing.WAITED: 2}


def test_a_batch_is_no_larger_than_allowed() -> None:
    gatherer, batches = run(Line(0, 0, 0, 0, 0), Patience(max_batch=2), EVERY)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert gatherer.counts.closings == {Closing.FULL: 2, Closing.WAITED: 1}


def test_frames_that_come_soon_are_waited_for() -> None:
    line = Line(0, 0.02, 0.04, 0.2)
    _, batches = run(line, Patience(max_batch=8, max_wait=0.05), EVERY)
    assert batches == [["f0", "f1", "f2"], ["f3"]]
    assert line.waits[:3] == pytest.approx([0.05, 0.03, 0.01]), "the wait counts from the first frame"


def test_nothing_is_waited_for_until_a_batch_was_seen() -> None:
    line = Line(0, 0.01)
    gatherer, batches = run(line, Patience(max_batch=8, max_wait=0.05, deadline=1), EVERY)
    assert batches[0] == ["f0"] and line.waits[0] == 0
    assert gatherer.counts.closings[Closing.DEADLINE] == 1


def test_the_wait_ends_where_the_oldest_frame_would_be_late() -> None:
    line = Line(0, 1, 1.06, begin=0)
    gatherer, batches = run(line, Patience(max_batch=2, max_wait=0.5, deadline=0.3), EVERY)
    # A batch of two is expected to take 0.24 s, twice one of one: the frame of 1 s can wait for 0.06 s.
    assert batches == [["f0"], ["f1", "f2"]] and line.waits == pytest.approx([0, 0.06])
    assert line.now <= 1 + 0.3
    gatherer, batches = run(Line(0, 1, 1.07), Patience(max_batch=2, max_wait=0.5, deadline=0.3), EVERY)
    assert batches == [["f0"], ["f1"], ["f2"]] and gatherer.counts.closings[Closing.DEADLINE] >= 2


def test_a_frame_that_waits_is_left_when_it_would_make_the_oldest_late() -> None:
    line = Line(0, 1, 1, 1)
    gatherer, batches = run(line, Patience(max_batch=8, deadline=0.25), EVERY)
    assert batches == [["f0"], ["f1", "f2"], ["f3"]], "three would take 0.36 s as far as is known"
    assert gatherer.counts.sizes == {1: 2, 2: 1}
    assert gatherer.counts.closings == {Closing.WAITED: 1, Closing.DEADLINE: 1, Closing.LATE: 1}


def test_a_late_line_takes_all_that_waits() -> None:
    line = Line(0, 0.01, 0.02, 0.03)
    gatherer, batches = run(line, Patience(max_batch=8, max_wait=1, deadline=0.2), {1: 0.3, 3: 0.35})
    assert batches == [["f0"], ["f1", "f2", "f3"]] and gatherer.counts.closings[Closing.LATE] == 1
    assert line.waits == [0, 0, 0, 0], "who is late waits for no one"


def test_the_oldest_frame_counts_and_not_the_first_taken() -> None:
    line = Line(0, 2, 2)
    old = Frame("old", "p", IMAGE, round(1.8e9))
    line.coming.insert(2, (2.0, old))
    _, batches = run(line, Patience(max_batch=8, max_wait=0.5, deadline=0.45), {1: 0.1, 2: 0.1, 3: 0.1})
    assert batches[1] == ["f1", "old"], "with three of them the old one would be late"


def test_what_a_batch_takes_is_learned_from_the_slowest_of_the_last() -> None:
    times = BatchTimes()
    assert times.expected(3) is None
    times.observe(4, 0.4)
    assert times.expected(2) == 0.4 and times.expected(8) == 0.8
    times.observe(2, 0.3)
    assert times.expected(3) == pytest.approx(0.45) and times.expected(1) == 0.3 and times.expected(2) == 0.3
    for _ in range(NUM_REMEMBERED):
        times.observe(2, 0.2)
    assert times.expected(2) == 0.2, "the slow one is forgotten"


def test_a_queue_of_the_standard_library_ends_by_none() -> None:
    queue: Queue[Frame | None] = Queue()
    for number in range(3):
        queue.put(Frame(f"f{number}", "p", IMAGE, 0))
    queue.put(None)
    gatherer = Gatherer(queue, Patience(max_batch=8))
    assert [len(batch) for batch in gatherer] == [3] and gatherer.counts.closings == {Closing.ENDED: 1}
    queue.put(None)
    assert list(Gatherer(queue, Patience(max_batch=8))) == []


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_wait": -1.0}, {"deadline": 0.0}, {"patience": 1}])
def test_patience_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Patience.model_validate({"max_batch": 2, **wrong})
