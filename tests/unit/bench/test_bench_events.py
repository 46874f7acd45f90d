"""Every way in which the events of a frame can be wrong is found; an orderly frame has none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from judo_edge.bench.events import EventTally, milestones, violations
from judo_edge.core import CellMask, Decision, Event, EventKind, Verdict

VERDICT = Verdict("7", "lid", Decision.OK, "", None)


def event(kind: EventKind, seconds: float, num_passes: int = 1, frame_id: str = "7") -> Event:
    values = {EventKind.VERDICT: VERDICT, EventKind.MASK: CellMask(16, 16), EventKind.EARLY_VERDICT: Decision.OK}
    return Event(kind, frame_id, seconds, num_passes, values.get(kind, "text"))


ORDERLY = [
    event(EventKind.EARLY_VERDICT, 0.1),
    event(EventKind.CELLS, 0.2),
    event(EventKind.CELLS, 0.2, 2),
    event(EventKind.MASK, 0.3, 2),
    event(EventKind.REASON, 0.4, 3),
    event(EventKind.ANSWER, 0.4, 3),
    event(EventKind.VERDICT, 0.5, 3),
]


def test_an_orderly_frame_has_no_violation() -> None:
    assert violations("7", ORDERLY, VERDICT) == ()
    assert violations("7", [ORDERLY[0], ORDERLY[-1]], VERDICT) == ()
    assert violations("7", ORDERLY[-1:], VERDICT) == ()


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([], "0 verdicts"),
        (ORDERLY[:-1], "0 verdicts"),
        ([*ORDERLY, ORDERLY[-1]], "2 verdicts"),
        ([ORDERLY[-1], event(EventKind.ANSWER, 0.6, 3)], "'answer' after 'verdict'"),
        ([ORDERLY[3], event(EventKind.CELLS, 0.4, 3), ORDERLY[-1]], "'cells' after 'mask'"),
        ([ORDERLY[3], ORDERLY[3], ORDERLY[-1]], "'mask' after 'mask'"),
        ([event(EventKind.MASK, 0.9), ORDERLY[-1]], "'verdict' is earlier than the event before it"),
        ([event(EventKind.MASK, 0.3, 9), ORDERLY[-1]], "passes go back from 9 to 3"),
        ([event(EventKind.MASK, 0.3, 1, "6"), ORDERLY[-1]], "an event of frame 6"),
        (
            [replace(ORDERLY[-1], value=replace(VERDICT, decision=Decision.NOK))],
            "another verdict than the one returned",
        ),
    ],
)
def test_violations_are_found(events: list[Event], found: str) -> None:
    assert f"frame 7: {found}" in violations("7", events, VERDICT)


def test_a_verdict_on_another_frame_is_found() -> None:
    other = replace(VERDICT, frame_id="8")
    assert "frame 7: the verdict of frame 8" in violations("7", ORDERLY, other)


def test_milestones_are_the_times_of_their_events() -> None:
    assert milestones(ORDERLY) == {"first_verdict": 0.1, "mask": 0.3, "answer": 0.4}
    assert milestones(ORDERLY[-1:]) == {}


def test_a_tally_counts_losses_apart_and_keeps_few_examples() -> None:
    tally = EventTally()
    tally.add("7", ORDERLY, VERDICT)
    tally.add("7", [*ORDERLY, ORDERLY[-1]], VERDICT)
    for _ in range(9):
        tally.add("7", ORDERLY[:-1], VERDICT)
    assert (tally.num_frames, tally.num_lost, tally.num_violations, len(tally.examples)) == (11, 9, 11, 5)
