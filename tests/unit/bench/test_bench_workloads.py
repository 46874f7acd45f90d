"""Workloads: shares, parts, and that the seed decides everything."""

from __future__ import annotations

from itertools import islice

import pytest

from judo_edge.bench.workloads import BLOCK, Slot, Workload, slots
from judo_edge.errors import InputError


def some(workload: Workload, count: int, num_parts: int = 3, seed: int = 0) -> list[Slot]:
    return list(islice(slots(workload, num_parts, seed), count))


@pytest.mark.parametrize("workload", [Workload.GOOD_LINE, Workload.PART_CHANGE])
def test_exactly_one_in_twenty_is_defective(workload: Workload) -> None:
    labels = [slot.is_defect for slot in some(workload, 10 * BLOCK)]
    blocks = [sum(labels[i : i + BLOCK]) for i in range(0, len(labels), BLOCK)]
    assert blocks == [1] * 10
    places = {i % BLOCK for i, label in enumerate(labels) if label}
    assert len(places) > 3


def test_a_bad_batch_is_all_defective_and_a_cold_start_all_good() -> None:
    assert all(slot.is_defect for slot in some(Workload.BAD_BATCH, 50))
    assert not any(slot.is_defect for slot in some(Workload.COLD_START, 50))


def test_parts_change_every_frame_or_never() -> None:
    changing = [slot.part for slot in some(Workload.PART_CHANGE, 30)]
    assert changing == [0, 1, 2] * 10
    assert {slot.part for slot in some(Workload.GOOD_LINE, 30)} == {0}


def test_the_seed_decides() -> None:
    assert some(Workload.GOOD_LINE, 100) == some(Workload.GOOD_LINE, 100)
    assert some(Workload.GOOD_LINE, 100) != some(Workload.GOOD_LINE, 100, seed=1)


def test_turns_count_what_came_before_of_the_same_part_and_label() -> None:
    seen: dict[tuple[int, bool], int] = {}
    for number, slot in enumerate(some(Workload.PART_CHANGE, 200)):
        assert slot.number == number and slot.turn == seen.get((slot.part, slot.is_defect), 0)
        seen[slot.part, slot.is_defect] = slot.turn + 1


def test_a_change_of_parts_needs_two() -> None:
    with pytest.raises(InputError, match=r"1 part number for the workload part-change; wanted: at least two; do: give"):
        next(slots(Workload.PART_CHANGE, 1, 0))
