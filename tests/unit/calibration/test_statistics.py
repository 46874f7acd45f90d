"""Which rows are kept: evenly over the kinds, apart for held-out samples, the same by the same seed."""

from __future__ import annotations

import numpy as np

from judo_edge.calibration.file import Settings
from judo_edge.calibration.statistics import records_from_kinds
from judo_edge.calibration.tokens import KIND, Kinds

SETTINGS = Settings(search_tokens=40, error_tokens=20)


def sequences(count: int = 6) -> list[Kinds]:
    names = ["query"] * 50 + ["reference"] * 50 + ["question"] * 8 + ["mask"] * 12 + ["prose"] * 15
    return [np.array([KIND[name] for name in names], np.int8) for _ in range(count)]  # type: ignore[index]


HELD = [False, True, False, False, True, False]


def test_kinds_are_drawn_evenly_and_held_out_samples_apart() -> None:
    records = records_from_kinds(sequences(), HELD, SETTINGS, salt=0)
    for held, each in ((False, 8), (True, 4)):
        part = [record for record in records if record.held_out is held]
        codes = np.concatenate([record.kinds[record.picked] for record in part])
        assert np.bincount(codes, minlength=6).tolist() == [0, *[each] * 5]


def test_no_row_is_drawn_twice_and_rare_kinds_give_what_they_have() -> None:
    kinds = sequences(2)
    kinds[0] = np.where(kinds[0] == KIND["mask"], KIND["prose"], kinds[0]).astype(np.int8)
    kinds[0][100] = KIND["mask"]
    records = records_from_kinds(kinds, [False, True], SETTINGS, salt=0)
    assert all(len(set(record.picked.tolist())) == record.picked.size for record in records)
    assert (records[0].kinds[records[0].picked] == KIND["mask"]).sum() == 1


def test_the_prefix_is_never_drawn() -> None:
    kinds = [np.full(30, KIND["system"], np.int8), *sequences()]
    records = records_from_kinds(kinds, [False, *HELD], SETTINGS, salt=0)
    assert records[0].picked.size == 0


def test_seed_and_salt_decide() -> None:
    def rows(seed: int, salt: int) -> list[int]:
        records = records_from_kinds(sequences(), HELD, SETTINGS.model_copy(update={"seed": seed}), salt)
        return [int(row) for record in records for row in record.picked]

    assert rows(0, 0) == rows(0, 0)
    assert rows(0, 0) != rows(1, 0) and rows(0, 0) != rows(0, 1)
