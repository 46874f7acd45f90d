"""Continuations by the longest context seen before: what is guessed, how surely, and what is forgotten."""

from __future__ import annotations

from collections import Counter

import numpy as np

from judo_edge.runtime.drafts.ngrams import DOUBT, ORDERS, START, NgramTable


def table(*sequences: list[int], max_sequences: int = 256) -> NgramTable:
    made = NgramTable(max_sequences)
    for ids in sequences:
        made.add(ids)
    return made


def test_a_repeated_sequence_is_continued_to_its_end() -> None:
    draft = table([1, 2, 3, 4], [1, 2, 3, 4]).continuation([], 10)
    assert draft.ids == (1, 2, 3, 4) and len(set(draft.confidence)) == 1
    assert draft.confidence[0] == 2 / (2 + DOUBT / ORDERS[0])


def test_the_longest_context_decides() -> None:
    made = table([5, 1, 2, 7], [6, 1, 2, 8], [6, 1, 2, 8])
    assert made.continuation([5, 1, 2], 1).ids == (7,)
    assert made.continuation([6, 1, 2], 1).ids == (8,)
    assert made.continuation([9, 1, 2], 1).ids == (8,), "an unseen beginning falls back to what is seen more often"


def test_confidence_is_the_share_of_what_followed() -> None:
    made = table([1, 2], [1, 2], [1, 2], [1, 3])
    draft = made.continuation([1], 5)
    assert draft.ids == (2,) and draft.confidence == (3 / (4 + DOUBT / ORDERS[0]),)


def test_room_and_unlikely_tails_end_a_guess() -> None:
    assert table([1, 2, 3, 4]).continuation([], 2).ids == (1, 2)
    noisy = table(*([[i, 100 + j] for i in range(20) for j in range(20)]))
    assert len(noisy.continuation([], 5).ids) == 1, "one in twenty, then one in twenty again, is not guessed"
    assert table().continuation([1], 5).ids == ()


def test_the_oldest_sequence_is_forgotten_without_a_trace() -> None:
    made = table([1, 2, 3], [4, 5, 6], [7, 8, 9], max_sequences=2)
    fresh = table([4, 5, 6], [7, 8, 9])
    assert made._next == fresh._next and made.sequences == ((4, 5, 6), (7, 8, 9))


def test_certain_stops_where_anything_else_was_seen() -> None:
    made = table([1, 2, 3, 4], [1, 2, 3, 5])
    assert made.certain([], 9) == (1, 2, 3)
    assert table([1, 2, 3]).certain([], 9) == (), "one sighting is not certain"


def test_counts_equal_a_plain_recount() -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 4, rng.integers(1, 30)).tolist() for _ in range(40)]
    made = table(*sequences, max_sequences=25)
    for order in ORDERS:
        for ids in sequences[-3:]:
            known = [START, *ids]
            context = tuple(known[max(0, len(known) - 2 - order) : len(known) - 2])
            if len(context) == order:
                assert made._next[context] == _followers(sequences[-25:], context)


def _followers(sequences: list[list[int]], context: tuple[int, ...]) -> Counter[int]:
    """Count by looking at every place of every sequence."""
    found: Counter[int] = Counter()
    for ids in sequences:
        known = [START, *ids]
        for end in range(len(context), len(known)):
            found[known[end]] += tuple(known[end - len(context) : end]) == context
    return Counter({token: count for token, count in found.items() if count})
