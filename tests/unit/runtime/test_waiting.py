from __future__ import annotations

import threading

import pytest

from judo_edge.runtime.sources.numbering import Numbering
from judo_edge.runtime.sources.waiting import WaitingFrames, WaitingPolicy


def test_drop_oldest_keeps_the_newest_and_tells_the_gap() -> None:
    line: WaitingFrames[int] = WaitingFrames(WaitingPolicy.DROP_OLDEST, 2)
    for number in range(5):
        assert line.put(number)
    assert line.take(0) == (3, 3)
    assert line.take(0) == (4, 0)
    assert line.take(0) is None
    assert line.num_dropped == 3


def test_wait_lets_the_bringer_wait_and_loses_nothing() -> None:
    line: WaitingFrames[int] = WaitingFrames(WaitingPolicy.WAIT, 2)
    bringer = threading.Thread(target=lambda: [line.put(number) for number in range(20)], daemon=True)
    bringer.start()
    taken = [line.take(10) for _ in range(20)]
    bringer.join(10)
    assert taken == [(number, 0) for number in range(20)]
    assert line.num_dropped == 0


def test_close_wakes_a_bringer_and_leaves_what_waits() -> None:
    line: WaitingFrames[int] = WaitingFrames(WaitingPolicy.WAIT, 1)
    line.put(1)
    answers: list[bool] = []
    bringer = threading.Thread(target=lambda: answers.append(line.put(2)), daemon=True)
    bringer.start()
    line.close()
    bringer.join(10)
    assert answers == [False]
    assert line.take(0) == (1, 0)
    assert line.take(10) is None


def test_every_frame_is_taken_or_counted() -> None:
    line: WaitingFrames[int] = WaitingFrames(WaitingPolicy.DROP_OLDEST, 3)
    bringer = threading.Thread(target=lambda: ([line.put(n) for n in range(5000)], line.close()), daemon=True)
    bringer.start()
    last = -1
    while (taken := line.take(10)) is not None:
        frame, gap = taken
        assert frame == last + gap + 1
        last = frame
    assert last == 4999


def test_no_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        WaitingFrames(capacity=0)


def test_numbers_rise_over_gaps_wraps_and_restarts() -> None:
    numbering = Numbering()
    assert numbering.number(7) == (7, 0)
    assert numbering.number(8) == (8, 0)
    assert numbering.number(11) == (11, 2)
    assert numbering.number(1) == (12, 0)  # began anew
    assert numbering.number(3) == (14, 1)


def test_numbers_go_on_over_the_wrap_of_gige_vision() -> None:
    numbering = Numbering()
    assert numbering.number(65534) == (65534, 0)
    assert numbering.number(65535) == (65535, 0)
    assert numbering.number(1) == (65536, 0)  # zero is never used
    assert numbering.number(4) == (65539, 2)


def test_a_camera_that_is_opened_again_goes_on_without_a_gap() -> None:
    numbering = Numbering()
    assert numbering.number(60000) == (60000, 0)
    numbering.restart()
    assert numbering.number(1) == (60001, 0)
    numbering.restart()
    assert numbering.number(50) == (60002, 0)
    assert numbering.number(52) == (60004, 1)
    assert numbering.number(52) == (60005, 0)  # the same id again
