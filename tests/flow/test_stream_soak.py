"""A short version of the soak: frames of a real stream, some of them lost on purpose, are all accounted for."""

from __future__ import annotations

import pytest

from tests.gvcamera import needs_aravis
from tests.tools.stream_soak import slope, soak


@needs_aravis
def test_every_frame_of_a_stream_is_accounted_for() -> None:
    report = soak(seconds=6, rate=50, stall_every=100)
    assert report["accounted"], report
    assert report["stalls"]
    assert report["dropped"]
    assert report["dropped_without_buffer"]
    assert report["frames"] == report["received"] + report["dropped"] + report["incomplete"]
    assert not report["reconnects"]


def test_the_slope_is_that_of_a_line_without_its_beginning() -> None:
    line = [(float(second), 10**8 + second * 10**6) for second in range(100)]
    jump = [(second, size * 2 if second < 10 else size) for second, size in line]
    assert slope(jump) == pytest.approx(60.0)
    assert slope(line[:2]) == 0.0
