"""A long run: a leak shows as a slope, a lost frame and a wrong order are counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from judo_edge.bench.counting import Pass, PassKind, Work
from judo_edge.bench.energy import NoMeter
from judo_edge.bench.lane import Lane, Looked
from judo_edge.bench.rounds import Shots
from judo_edge.bench.session import Plan
from judo_edge.bench.soak import SoakTally, soak
from judo_edge.bench.sources import DrawnParts
from judo_edge.bench.table import soak_table
from judo_edge.bench.workloads import Workload
from judo_edge.core import Decision, Event, EventKind, Verdict
from judo_edge.runtime.inspection import Inspection


def looked(name: str, is_lost: bool = False, decision: Decision = Decision.OK) -> Looked:
    verdict = Verdict(name, "lid", decision, "", None)
    events = () if is_lost else (Event(EventKind.VERDICT, name, 0.01, 1, verdict),)
    return Looked(0.02, (Inspection(verdict),), (events,), Work(1, [Pass(PassKind.PREFILL, 9, 1, 0)]), None)


def run(num_frames: int, memory: Callable[[], int], lost: int = -1) -> SoakTally:
    tally = SoakTally(num_frames, memory)
    for number in range(num_frames):
        tally.add(looked(str(number), is_lost=number == lost), (str(number),))
    return tally


def test_a_leak_is_the_slope_and_what_grows_at_first_is_not() -> None:
    frames = count()
    leaking = run(2000, lambda: 100_000_000 + 3_000 * next(frames))
    assert leaking.line.slope == pytest.approx(3.0)
    frames = count()
    settled = run(2000, lambda: 100_000_000 + 50_000 * min(900, next(frames)))
    assert settled.line.slope == pytest.approx(0) and settled.line.count == 1000


def test_memory_that_the_system_does_not_tell_is_not_measured() -> None:
    tally = run(10, lambda: 0)
    assert tally.line.slope is None and tally.rss == []


def test_losses_and_undecided_frames_are_counted() -> None:
    tally = run(10, lambda: 1, lost=4)
    tally.add(looked("x", decision=Decision.NOT_DECIDABLE), ("x",))
    assert (tally.events.num_frames, tally.events.num_lost, tally.undecidable) == (11, 1, 1)
    assert tally.events.examples == ["frame 4: 0 verdicts"]


def test_a_tally_does_not_grow() -> None:
    tally = run(500, lambda: 7_000_000, lost=3)
    assert len(tally.rss) == 2 and len(tally.events.examples) == 1 and tally.latency.count == 500


@pytest.fixture
def plan() -> Plan:
    return Plan(Workload.GOOD_LINE, DrawnParts(["board"], 0), "drawn", seed=0, rounds=6, warm_up=0, cameras=2)


def test_a_run_reports_every_frame(lane_of: Callable[..., Lane], shots: Callable[..., list[Shots]], plan: Plan) -> None:
    done: list[int] = []
    report = soak(lane_of(), iter(shots(9, cameras=2)), plan.setting(NoMeter(), 0), done.append)
    assert (report.frames, report.lost, report.event_violations, report.undecidable) == (12, 0, 0, 0)
    assert report.is_orderly and done == [1, 2, 3, 4, 5, 6] and report.vision_passes_per_part == pytest.approx(13 / 12)
    rows = dict(soak_table(report)[1])
    assert rows["frames"] == "12" and rows["lost"] == "0"
    assert not report.model_copy(update={"lost": 1}).is_orderly
    assert (
        dict(soak_table(report.model_copy(update={"rss_slope_mb_per_1000": None}))[1])[
            "its slope, second half, MB per 1,000 frames"
        ]
        == "not measured"
    )


def test_events_of_the_wrong_order_are_counted() -> None:
    tally, one = SoakTally(1, lambda: 0), looked("0")
    (event,) = one.events[0]
    late = replace(event, kind=EventKind.MASK, value="")
    tally.add(replace(one, events=((event, late),)), ("0",))
    assert tally.events.num_violations == 1 and "'mask' after 'verdict'" in tally.events.examples[0]
