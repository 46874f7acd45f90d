"""What is counted at the engine, the limit, and the order of the rounds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, cycle, repeat
from typing import Any

import numpy as np
import pytest

from judo_edge.bench.counting import CountingEngine, Pass, PassKind
from judo_edge.bench.energy import NoMeter
from judo_edge.bench.figures import row_from_rounds
from judo_edge.bench.lane import Lane
from judo_edge.bench.replay import ReplaySource
from judo_edge.bench.rounds import Shots, measured_rounds
from judo_edge.bundle import Bundle
from judo_edge.core import Decision, EventKind
from tests.scripted import BAD, GOOD, HIDDEN, ScriptedBatch, ScriptedEngine, ids_of

LaneOf = Callable[..., Lane]
ShotsOf = Callable[..., list[Shots]]


def test_passes_are_told_apart_by_what_they_are_for() -> None:
    engine = CountingEngine(ScriptedEngine(lambda red: GOOD))

    def advance(count: int, *rows: int) -> None:
        engine.advance(np.ones((1, count, HIDDEN), np.float32), np.zeros((3, 1, count), np.int64), np.array(rows))

    engine.start(100)
    for count, rows in ((20, (19,)), (1, (0,)), (4, (0, 1, 2, 3))):
        advance(count, *rows)
    engine.rewind(22)
    advance(1, 0)
    engine.start(100)
    advance(1, 0)
    kinds = (PassKind.PREFILL, PassKind.DECODE, PassKind.VERIFY, PassKind.DECODE, PassKind.PREFILL)
    work = engine.take()
    assert [one.kind for one in work.passes] == list(kinds)
    assert work.passes[2] == Pass(PassKind.VERIFY, 4, 4, 21) and work.passes[3].kept == 22
    assert engine.take().passes == []


def test_what_an_engine_has_besides_is_passed_on() -> None:
    inner = ScriptedEngine(lambda red: GOOD)
    engine: Any = CountingEngine(inner)
    assert engine.script is inner.script and engine.digest == inner.digest and engine.name == "scripted"


def test_a_lane_counts_photos_passes_and_events(lane_of: LaneOf, shots: ShotsOf) -> None:
    lane, moments = lane_of(), shots(2)
    first, second = (lane.look(one) for one in moments)
    assert (first.work.num_images, second.work.num_images) == (2, 1)
    assert len(second.work.passes) == second.inspections[0].verdict.num_passes == 1, "the reply is remembered"
    assert second.inspections[0].ids == tuple(ids_of(GOOD))
    assert [event.kind for event in second.events[0]][-1] is EventKind.VERDICT
    assert second.joules is None and second.seconds > 0


def test_photos_of_one_moment_share_a_pass(bundle: Bundle, shots: ShotsOf) -> None:
    lane = Lane(bundle, CountingEngine(ScriptedBatch(lambda red: GOOD)), NoMeter())
    for moment in shots(2, cameras=3):
        looked = lane.look(moment)
    (shared,) = looked.work.passes
    kept, length = shared.kept, len(ids_of(GOOD))
    assert shared == Pass(PassKind.PREFILL, 3 * (lane.prompt_tokens - kept + length), 3 * (length + 1), kept)
    assert [events[-1].value for events in looked.events] == [one.verdict for one in looked.inspections]


def test_a_reply_that_goes_on_alone_is_no_new_prompt(bundle: Bundle, shots: ShotsOf) -> None:
    lane = Lane(bundle, CountingEngine(ScriptedBatch(lambda red: GOOD)), NoMeter())
    (moment,) = shots(1, cameras=2)
    kinds = [one.kind for one in lane.look(moment, "off").work.passes]
    assert kinds[:2] == [PassKind.PREFILL] * 2, "the text before the photos, then both prompts"
    assert kinds[2:] == [PassKind.DECODE] * 2 * (len(ids_of(GOOD)) - 1)


def test_the_limit_is_one_pass_that_predicts_the_reply(lane_of: LaneOf, shots: ShotsOf) -> None:
    lane, (moment,) = lane_of(), shots(1)
    looked = lane.look(moment)
    lane.engine.take()
    limits = lane.limit(moment, looked)
    work = lane.engine.take()
    assert limits is not None and limits[0].agrees
    length, reply = lane.prompt_tokens, len(looked.inspections[0].ids)
    assert work.passes == [Pass(PassKind.PREFILL, length + reply - 1, reply, 0)]
    assert lane.limit(moment, looked) and lane.engine.take().num_images == 1


def test_the_limit_tells_when_its_pass_predicts_another_reply(bundle: Bundle, shots: ShotsOf) -> None:
    replies = chain([GOOD], repeat(BAD))
    lane = Lane(bundle, CountingEngine(ScriptedEngine(lambda red: next(replies))), NoMeter())
    (moment,) = shots(1)
    limits = lane.limit(moment, lane.look(moment))
    assert limits is not None and not limits[0].agrees


def test_without_a_reply_there_is_no_limit(lane_of: LaneOf, shots: ShotsOf) -> None:
    lane, (moment,) = lane_of(broken="encode"), shots(1)
    looked = lane.look(moment)
    assert looked.inspections[0].verdict.decision is Decision.NOT_DECIDABLE
    assert lane.limit(moment, looked) is None


class Noted:
    """A lane that notes when it is asked for what."""

    replay = None

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self._notes = name, notes

    def look(self, shots: Shots, drafts: str = "") -> float:
        self._notes.append(f"{self.name}{drafts}")
        return float(len(self._notes))

    def limit(self, shots: Shots, looked: object) -> None:
        self._notes.append(f"{self.name}limit")


def test_everyone_takes_turns_and_the_limit_stands_between(shots: ShotsOf) -> None:
    notes: list[str] = []
    lanes: Any = [Noted("a-", notes), Noted("b-", notes)]
    done: list[int] = []
    rounds = measured_rounds(lanes, iter(shots(8)), 6, 1, [Noted("rival", notes)], done.append)
    each = [notes[i : i + 7] for i in range(0, len(notes), 7)]
    assert each[0] == ["a-on", "a-limit", "a-off", "b-on", "b-limit", "b-off", "rival"]
    assert each[1] == ["a-off", "a-limit", "a-on", "b-off", "b-limit", "b-on", "rival"]
    assert each[2] == ["b-on", "b-limit", "b-off", "rival", "a-on", "a-limit", "a-off"]
    assert each[5][0] == "rival" and len(each) == 7 and done == list(range(1, 8))
    assert [len(lane) for lane in rounds.lanes] == [6, 6] and len(rounds.rivals["rival"]) == 6


def test_a_pause_goes_by_before_each_turn(shots: ShotsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    lanes: Any = [Noted("a-", notes)]
    monkeypatch.setattr("judo_edge.bench.rounds.time.sleep", lambda seconds: notes.append(f"{seconds}"))
    measured_rounds(lanes, iter(shots(1)), 1, rivals=[Noted("rival", notes)], pause=0.1)
    assert notes == ["0.1", "a-on", "a-limit", "a-off", "0.1", "rival"]


def test_a_reply_that_drafts_change_is_found(bundle: Bundle, shots: ShotsOf) -> None:
    replies = cycle([GOOD, GOOD, BAD])
    lane = Lane(bundle, CountingEngine(ScriptedEngine(lambda red: next(replies))), NoMeter())
    rounds = measured_rounds([lane], iter(shots(2)), 2)
    row = row_from_rounds(bundle, lane.prompt_tokens, rounds.lanes[0])
    place = next(i for i, (a, b) in enumerate(zip(ids_of(GOOD), ids_of(BAD), strict=False)) if a != b)
    assert (row.equality.equal, row.equality.compared) == (0, 2)
    expected = f"token {place} is {ids_of(GOOD)[place]} with drafts, {ids_of(BAD)[place]} without"
    assert row.equality.differences[0].endswith(expected)


def test_a_row_of_the_report(lane_of: LaneOf, bundle: Bundle, shots: ShotsOf) -> None:
    lane = lane_of()
    rounds = measured_rounds([lane], iter(shots(4, cameras=3)), 3, 1)
    row = row_from_rounds(bundle, lane.prompt_tokens, rounds.lanes[0], peak_rss_bytes=5)
    length = len(ids_of(GOOD))
    assert row.tokens_per_reply == length and row.vision_passes_per_part == 1
    passes = row.passes["prefill"]
    assert row.passes_per_part == passes.per_part == 1 and row.passes.keys() == {"prefill"}
    assert passes.rows + passes.kept == row.prompt_tokens + length
    assert row.latency.count == 3 and row.stages["vision"].count == 9 and (row.limit_agrees, row.limit_parts) == (9, 9)
    total = sum(stage.mean for stage in row.stages.values())
    assert total == pytest.approx(row.latency.mean / 3) and list(row.stages)[-1] == "rest"
    assert row.equality.equal == row.equality.compared == 9 and row.num_event_violations == 0
    assert row.joules_per_part is None and row.peak_rss_bytes == 5 and row.p99_ms == row.latency.p99
    assert row.limit is not None and row.limit_ratio == pytest.approx(row.latency.mean / row.limit.mean)


def test_replayed_replies_are_checked_in_one_pass(lane_of: LaneOf, shots: ShotsOf) -> None:
    lane = lane_of(replay=ReplaySource())
    kept = measured_rounds([lane], iter(shots(3)), 3)
    for each in kept.lanes[0][1:]:  # the first photo also has the text read for its keys and values
        assert each.drafted.inspections[0].ids == each.greedy.inspections[0].ids
        assert [one.kind for one in each.drafted.work.passes] == [PassKind.PREFILL]
