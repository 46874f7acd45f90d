"""Replies: `<seg> MASK </seg>`, `<think> TEXT </think>`, `<answer>X</answer>`, read by their tags only.

Knows the order and number of tags and what each may hold; a letter outside `<answer>` never counts. One reader serves
whole texts and text as it arrives, so both agree.
"""

from __future__ import annotations

import copy
import re
import string
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from judo_edge.core import CellMask, Reply
from judo_edge.protocol.seg import Cell, SegStream, SegSyntaxError, seg_from_mask

TAGS = ("seg", "think", "answer")
"""The tags of a reply, in order."""

_TAG = re.compile(rf"<(/?)({'|'.join(TAGS)})>")
_CLOSE = "</seg>"
_MARKS = tuple(f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/"))


@dataclass(frozen=True)
class ReplyEvent:
    """Something that became known while a reply arrived."""

    kind: Literal["cells", "mask", "think", "answer"]
    value: tuple[Cell, ...] | CellMask | str
    """New cells for `cells` (provisional until `mask`), the whole mask, the reason, or the letter."""


def text_from_parts(mask: CellMask, think: str, answer: str) -> str:
    """Write a reply as the model is trained to; ValueError for a tag inside `think` or a bad letter."""
    if _TAG.search(think):
        raise ValueError("think holds a reply tag")
    if not _is_letter(answer, string.ascii_uppercase):
        raise ValueError(f"answer {answer!r} is not one capital letter")
    return f"<seg> {seg_from_mask(mask)} </seg>\n<think> {think} </think>\n<answer>{answer}</answer>"


def reply_from_text(text: str, rows: int, cols: int, letters: Collection[str] = string.ascii_uppercase) -> Reply:
    """Read a whole reply, never failing; whatever is wrong is in `problems` and leaves its part None.

    A tag that comes twice counts with its first complete pair, and is a problem. `letters` are the answers offered.
    """
    stream = ReplyStream(rows, cols, letters)
    stream.feed(text)
    return stream.close()


class ReplyStream:
    """Reads a reply as it arrives, in any pieces; `close` tells the same as `reply_from_text` of the whole."""

    def __init__(self, rows: int, cols: int, letters: Collection[str] = string.ascii_uppercase) -> None:
        """Start a reply for a grid of `rows` x `cols` cells and the answers offered."""
        self._grid, self._letters = (rows, cols), letters
        self._text, self._tail, self._stray = "", "", ""
        self._open: str | None = None
        self._body = ""
        self._bodies: dict[str, str] = {}
        self._problems: list[str] = []
        self._seg = SegStream(rows, cols)
        self._mask: CellMask | None = None

    @property
    def should_stop(self) -> bool:
        """Tell whether an open mask loops or can no longer become valid, so that generating on is useless."""
        return self._is_reading_mask and (self._seg.is_looping or self._seg.is_broken)

    def would_spoil_mask(self, piece: str) -> bool:
        """Tell whether a next piece makes an open mask invalid that already holds a cell.

        Before the first cell nothing counts as spoiling: what keeps a mask alive must never make a part good.
        """
        if not (self._is_reading_mask and self._seg.cells) or self._seg.is_broken:
            return False
        probe = self._copy()
        probe.feed(piece)
        if not probe._is_reading_mask:
            return probe._mask is None
        closing = bool(probe._tail)
        return probe._seg.is_broken or (closing and not (_CLOSE.startswith(probe._tail) and probe._seg.is_closable))

    def _copy(self) -> ReplyStream:
        other = copy.copy(self)
        other._seg, other._bodies, other._problems = self._seg.copy(), dict(self._bodies), list(self._problems)
        return other

    @property
    def is_complete(self) -> bool:
        """Tell whether all three tags have been closed."""
        return len(self._bodies) == len(TAGS)

    def feed(self, text: str) -> list[ReplyEvent]:
        """Read the next piece; return what it settles."""
        self._text += text
        pending, end = self._tail + text, 0
        events: list[ReplyEvent] = []
        for match in _TAG.finditer(pending):
            events += self._read_text(pending[end : match.start()])
            events += self._read_tag(match[2], is_end=bool(match[1]))
            end = match.end()
        ready = len(pending) - _held_back(pending[end:])
        self._tail = pending[ready:]
        return events + self._read_text(pending[end:ready])

    def close(self) -> Reply:
        """End the reply and read it; call once, after the last piece."""
        self._read_text(self._tail)
        self._tail = ""
        if self._open:
            self._abandon(self._open)
        think = self._bodies.get("think")
        return Reply(
            text=self._text,
            mask=self._mask,
            think=None if think is None else think.strip(),
            answer=self._answer(),
            problems=tuple(self._problems + self._late_problems()),
        )

    @property
    def _is_reading_mask(self) -> bool:
        return self._open == "seg" and "seg" not in self._bodies

    def _read_text(self, text: str) -> list[ReplyEvent]:
        if self._open is None:
            self._stray += text
            return []
        self._body += text
        cells = self._seg.feed(text) if self._is_reading_mask else []
        return [ReplyEvent("cells", tuple(cells))] if cells else []

    def _read_tag(self, tag: str, is_end: bool) -> list[ReplyEvent]:
        if is_end and tag == self._open:
            return self._end(tag)
        if is_end:
            self._problems.append(f"</{tag}> closes nothing")
            return self._read_text(f"</{tag}>") if self._open else []
        if self._open:
            self._abandon(self._open)
        self._open, self._body = tag, ""
        return []

    def _abandon(self, tag: str) -> None:
        self._problems.append(f"<{tag}> is not closed")
        if self._is_reading_mask:
            self._seg = SegStream(*self._grid)
        self._open = None

    def _end(self, tag: str) -> list[ReplyEvent]:
        is_first = tag not in self._bodies
        self._open = None
        if not is_first:
            self._problems.append(f"<{tag}> comes twice")
            return []
        self._bodies[tag] = self._body
        return self._event_from_body(tag)

    def _event_from_body(self, tag: str) -> list[ReplyEvent]:
        if tag == "think":
            return [ReplyEvent("think", self._bodies[tag].strip())]
        if tag == "answer":
            answer = self._answer()
            return [ReplyEvent("answer", answer)] if answer else []
        try:
            self._mask = self._seg.close()
            return [ReplyEvent("mask", self._mask)]
        except SegSyntaxError as error:
            self._problems.append(f"<seg> is not a mask: {error}")
            return []

    def _answer(self) -> str | None:
        letter = self._bodies.get("answer", "").strip()
        return letter if _is_letter(letter, self._letters) else None

    def _late_problems(self) -> list[str]:
        problems = [f"<{tag}> is missing" for tag in TAGS if tag not in self._bodies]
        if "answer" in self._bodies and self._answer() is None:
            problems.append(f"<answer> holds {_shown(self._bodies['answer'])}, not one letter of those offered")
        if list(self._bodies) != [tag for tag in TAGS if tag in self._bodies]:
            problems.append(f"tags come in the order {', '.join(self._bodies)}")
        if stray := self._stray.strip():
            problems.append(f"text outside the tags: {_shown(stray)}")
        return problems


def _held_back(text: str) -> int:
    """Count the last characters that may be the beginning of a tag."""
    start = text.rfind("<")
    return len(text) - start if start >= 0 and any(mark.startswith(text[start:]) for mark in _MARKS) else 0


def _is_letter(text: str, letters: Collection[str]) -> bool:
    return len(text) == 1 and text in string.ascii_uppercase and text in letters


def _shown(text: str) -> str:
    return repr(text if len(text) <= 24 else f"{text[:21]}...")
