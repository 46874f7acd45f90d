"""The rows that a pass may read again are those that were kept last, however they came and were forgotten."""

from __future__ import annotations

import random

import numpy as np
import pytest

from judo_edge.core import Floats, Ints
from judo_edge.runtime.engines.recent import RecentRows

WIDTH = 3


def rows(begin: int, count: int, batch: int = 2) -> tuple[Floats, Ints]:
    """Return rows whose numbers say where they stand."""
    places = np.arange(begin, begin + count)
    embeds = np.broadcast_to(places[None, :, None].astype(np.float32), (batch, count, WIDTH)).copy()
    return embeds, np.broadcast_to(places, (3, batch, count)).copy()


@pytest.mark.parametrize("seed", range(20))
def test_what_is_read_again_is_what_stands_behind_the_last_multiple(seed: int) -> None:
    chance, recent = random.Random(seed), RecentRows()
    origin = length = chance.choice((0, 5, 107))
    recent.start(origin)
    for _ in range(60):
        if chance.random() < 0.3:
            length = chance.randint(max(0, origin - 1), length)
            origin = min(origin, length)
            recent.rewind(length)
        count = chance.randint(1, 40)
        again = recent.num_behind(16)
        assert again == (length - origin) % 16
        embeds, places = recent.before(again, *rows(length, count))
        expected = np.arange(length - again, length + count)
        assert embeds.shape == (2, again + count, WIDTH)
        assert (places == expected).all() and (embeds == expected[None, :, None]).all()
        recent.append(*rows(length, count))
        length += count


def test_what_is_kept_does_not_change_with_the_callers_arrays() -> None:
    recent = RecentRows()
    recent.start(0)
    embeds, places = rows(0, 5)
    recent.append(embeds, places)
    embeds[:], places[:] = 99, 99
    kept, kept_places = recent.before(recent.num_behind(16), *rows(5, 1))
    assert kept.max() == kept_places.max() == 5
