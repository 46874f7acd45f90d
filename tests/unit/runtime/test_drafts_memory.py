"""Earlier replies on the disk: back after a restart, bounded, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from judo_edge.runtime.drafts import Evidence, ReplyMemory, Writing
from judo_edge.runtime.drafts.memory import SLACK
from judo_edge.runtime.drafts.replies import HistorySource
from judo_edge.runtime.drafts.text import TextDrafts
from judo_edge.runtime.tokenizer import Tokenizer
from tests.scripted import tokenizer

TEXTS = TextDrafts(Tokenizer(tokenizer()))


def test_replies_are_there_after_a_restart_in_order_and_by_part(tmp_path: Path) -> None:
    first = ReplyMemory(tmp_path, "a" * 64)
    for ids in ([1, 2], [3]):
        first.keep("lid/7", ids)
    first.keep("box", [9])
    again = ReplyMemory(tmp_path, "a" * 64)
    assert again.opened("lid/7") == [(1, 2), (3,)] and again.opened("box") == [(9,)]
    assert ReplyMemory(tmp_path, "b" * 64).opened("box") == [], "ids mean nothing in another vocabulary"


def test_a_history_goes_on_where_it_was(tmp_path: Path) -> None:
    source = HistorySource(ReplyMemory(tmp_path, "v"), TEXTS)
    source.learn(Writing(Evidence("lid"), [4, 5, 6]))
    assert HistorySource(ReplyMemory(tmp_path, "v"), TEXTS).propose(Writing(Evidence("lid")), 9).ids == (4, 5, 6)


@pytest.mark.parametrize("torn", [b"[1, 2", b'{"a": 1}\n', b"[-1]\n", b"[true]\n", b"\xff\xfe\n", b"\n"])
def test_a_torn_line_is_passed_over(tmp_path: Path, torn: bytes) -> None:
    memory = ReplyMemory(tmp_path, "v")
    memory.keep("lid", [1, 2])
    (file,) = tmp_path.glob("lid/*")
    file.write_bytes(file.read_bytes() + torn)
    assert memory.opened("lid") == [(1, 2)]


def test_the_file_is_bounded(tmp_path: Path) -> None:
    memory = ReplyMemory(tmp_path, "v", max_replies=4)
    for number in range(4 * SLACK + 2):
        memory.keep("lid", [number])
    wanted = [(number,) for number in range(4 * SLACK - 2, 4 * SLACK + 2)]
    assert memory.opened("lid") == wanted
    (file,) = tmp_path.glob("lid/*")
    assert file.read_bytes().count(b"\n") == 4 and memory.opened("lid") == wanted


def test_without_a_folder_nothing_is_kept_and_a_bad_one_does_no_harm(tmp_path: Path) -> None:
    nowhere = ReplyMemory(None, "v")
    nowhere.keep("lid", [1])
    assert nowhere.opened("lid") == []
    blocked = tmp_path / "file"
    blocked.write_text("")
    memory = ReplyMemory(blocked, "v")
    memory.keep("lid", [1])
    assert memory.opened("lid") == []
