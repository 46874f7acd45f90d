"""Workloads: which part comes next and whether it is good, as an endless stream that a seed decides.

Knows no photos. `sources` turns a slot into one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import numpy as np

from judo_edge.errors import InputError

BLOCK = 20
"""Parts of which exactly one is defective on a line of 95 % good parts."""


class Workload(str, Enum):
    """What a line sends."""

    GOOD_LINE = "good-line"
    """One part number, one part in `BLOCK` defective: 95 % good."""
    BAD_BATCH = "bad-batch"
    """One part number, every part defective."""
    PART_CHANGE = "part-change"
    """As `good-line`, but another part number every frame."""
    COLD_START = "cold-start"
    """Good parts, each the first frame of a process of its own."""


class Slot(NamedTuple):
    """One place in the stream."""

    number: int
    """Counted from zero."""
    part: int
    """Index of the part number."""
    is_defect: bool
    turn: int
    """How many slots of the same part and label came before."""


def slots(workload: Workload, num_parts: int, seed: int) -> Iterator[Slot]:
    """Yield the stream; InputError when the workload needs more part numbers than there are."""
    if workload is Workload.PART_CHANGE and num_parts < 2:
        found = f"{num_parts} part number for the workload {workload.value}"
        raise InputError(found, "at least two", "give another --items, or --drawn with two kinds")
    turns: Counter[tuple[int, bool]] = Counter()
    for number, is_defect in enumerate(_labels(workload, seed)):
        part = number % num_parts if workload is Workload.PART_CHANGE else 0
        yield Slot(number, part, is_defect, turns[part, is_defect])
        turns[part, is_defect] += 1


def _labels(workload: Workload, seed: int) -> Iterator[bool]:
    """Yield whether each part is defective: all, none, or one at a random place of every block."""
    rng = np.random.default_rng(seed)
    while True:
        place = int(rng.integers(BLOCK))
        for index in range(BLOCK):
            if workload is Workload.BAD_BATCH:
                yield True
            else:
                yield workload is not Workload.COLD_START and index == place
