"""How drafts are composed, cut where they stop paying, and how a source that fails is cooled down."""

from __future__ import annotations

import pytest

from judo_edge.runtime.decoder import Pass
from judo_edge.runtime.drafts import Draft, Drafter, Evidence, ReplyMemory, Writing, drafter_from_tokenizer
from judo_edge.runtime.drafts.costs import MAX_SHARE, MIN_SHARE, PassCosts
from judo_edge.runtime.drafts.text import TextDrafts
from judo_edge.runtime.tokenizer import Tokenizer
from tests.scripted import BAD, GOOD, ids_of, tokenizer

END = tokenizer().token_to_id("<|im_end|>")


class Fixed:
    """Guesses the rest of a given reply, always equally sure."""

    def __init__(self, name: str, ids: list[int], confidence: float = 0.9, begin: int = 0) -> None:
        self.name, self.ids, self.confidence, self.begin = name, ids, confidence, begin
        self.num_learnt = 0

    def propose(self, writing: Writing, room: int) -> Draft:
        ids = tuple(self.ids[len(writing.ids) :][:room]) if len(writing.ids) >= self.begin else ()
        return Draft(ids, (self.confidence,) * len(ids))

    def learn(self, writing: Writing) -> None:
        self.num_learnt += 1


def drafter(*sources: Fixed) -> Drafter:
    return Drafter(list(sources), TextDrafts(Tokenizer(tokenizer())), frozenset({END}))


def written(made: Drafter, ids: list[int], room: int = 200) -> list[int]:
    """Let a reply be written as a decoder does, and return the number of tokens that each pass drafted."""
    made.begin(Evidence("lid"))
    drafted, place = [], 0
    while place < len(ids):
        draft = made.next_draft(room)
        drafted.append(len(draft))
        for expected in (*draft, None):
            made.observe(ids[place])
            place += 1
            if place == len(ids) or ids[place - 1] != expected:
                break
    made.finish([Pass("prefill", 10, 0, 0, 0.001)])
    return drafted


def test_a_right_guess_covers_the_reply_in_one_pass() -> None:
    ids = ids_of(GOOD)
    assert written(drafter(Fixed("sure", ids, 0.99)), ids) == [len(ids)]


def test_sources_continue_each_other() -> None:
    ids = ids_of(GOOD)
    made = drafter(Fixed("head", ids[:6], 0.99), Fixed("tail", ids, 0.99, begin=6))
    assert written(made, ids) == [len(ids)]
    assert made.records["head"].num_accepted == 6 and made.records["tail"].num_accepted == len(ids) - 6


def test_the_most_promising_source_is_taken() -> None:
    ids, other = ids_of(GOOD), ids_of(BAD)
    made = drafter(Fixed("wrong", other, 0.5), Fixed("right", ids, 0.99))
    assert written(made, ids) == [len(ids)]
    assert made.records["wrong"].num_drafted == 0


def test_a_guess_ends_where_its_chance_falls_below_a_rows_cost() -> None:
    ids = ids_of(GOOD)
    made = drafter(Fixed("half", ids, 0.5))
    made.begin(Evidence("lid"))
    draft = made.next_draft(200)
    share = made.costs.row_share
    assert 0.5 ** len(draft) >= share > 0.5 ** (len(draft) + 1)


def test_nothing_is_drafted_behind_the_end_or_beyond_the_room() -> None:
    ids = ids_of(GOOD)
    made = drafter(Fixed("long", [*ids, 1, 2, 3], 0.99))
    made.begin(Evidence("lid"))
    assert made.next_draft(500)[-1] == END
    made.begin(Evidence("lid"))
    assert len(made.next_draft(5)) == 5 and made.next_draft(0) == ()


def test_a_source_that_keeps_to_no_room_is_cut() -> None:
    class Endless(Fixed):
        def propose(self, writing: Writing, room: int) -> Draft:
            return Draft((1,) * (room + 999), (1.0,) * (room + 999))

    made = drafter(Endless("endless", []))
    made.begin(Evidence("lid"))
    assert len(made.next_draft(7)) == 7


def test_a_source_that_is_always_wrong_is_cooled_down_and_tried_again_later() -> None:
    ids, wrong = ids_of(GOOD), [1] * 300
    source = Fixed("wrong", wrong, 0.9)
    made = drafter(source)
    drafted = [sum(written(made, ids)) for _ in range(7)]
    assert drafted[-1] <= drafted[0] / 10, drafted
    assert source.num_learnt == 7
    record = made.records["wrong"]
    low = record.reliability
    for _ in range(40):
        record.fade()
    assert low < 0.5 < 0.8 < record.reliability


def test_a_part_goes_on_as_it_did_before_and_a_new_one_as_the_others() -> None:
    made = drafter_from_tokenizer(Tokenizer(tokenizer()), frozenset({END}), ("A", "B"), (16, 16), ReplyMemory(None, ""))
    ids = ids_of(GOOD)
    assert len(written(made, ids)) > 1
    assert written(made, ids) == [len(ids)]
    made.begin(Evidence("another part"))
    assert list(made.next_draft(200)) == ids
    other = ids_of(BAD)
    made.begin(Evidence("another part"))
    for token in other[:4]:
        made.observe(token)
    assert "matches" not in made.texts.text_of(made.next_draft(200)), (
        "a mask with cells does not go on like an empty one"
    )


def test_the_format_alone_knows_the_tags_but_not_the_words() -> None:
    made = drafter_from_tokenizer(Tokenizer(tokenizer()), frozenset({END}), ("A", "B"), (16, 16), ReplyMemory(None, ""))
    made.sources = [source for source in made.sources if source.name == "format"]
    drafted = written(made, ids_of(GOOD))
    accepted = made.records["format"].num_accepted
    assert 8 <= accepted < len(ids_of(GOOD)) and len(drafted) >= 3
    made.begin(Evidence("lid"))
    for token in ids_of(GOOD)[:-6]:
        made.observe(token)
    assert "None" not in made.texts.text_of(made.next_draft(50))


def test_costs_are_the_line_through_the_passes() -> None:
    costs = PassCosts()
    assert 0 < costs.row_share < 0.2, "a guess before anything was measured"
    for _ in range(5):
        for rows in (1, 8, 200):
            costs.observe(rows, 0.010 + 0.0005 * rows)
    assert costs.row_share == pytest.approx(0.0005 / 0.0105, rel=1e-6)


def test_a_disturbed_measurement_stays_in_bounds() -> None:
    falling, steep = PassCosts(), PassCosts()
    for rows in (1, 50, 100):
        falling.observe(rows, 1.0 / rows)
        steep.observe(rows, 1.0 * rows)
    assert falling.row_share == MIN_SHARE and steep.row_share == MAX_SHARE
