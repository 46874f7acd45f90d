"""From a labelled set to calibration pairs: which items, with which reference, asked how, answered how.

Every set that would give ranges of something else than production is refused here, before any weight is read. Knows
items, photos' hashes and JUDO's replies; knows no tensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from judo_edge.core import CellMask, Image
from judo_edge.errors import ImageError, ItemsError
from judo_edge.items import Item, chosen_items, items_from_csv, reference_candidates
from judo_edge.protocol.questions import Question, detection_question
from judo_edge.protocol.reasons import reason
from judo_edge.protocol.reply import text_from_parts
from judo_edge.vision.photos import image_from_file, sha256_from_image

MIN_SAMPLES = 16
"""Fewest pairs that ranges are taken from: 16 pairs are about 12,000 tokens of a 7B prompt."""
SPLIT = "train"
NO_MASK, NO_CELL, NOT_CHOSEN = "defect without a mask", "defect that reaches no cell", "more than --samples"


@dataclass(frozen=True)
class Photo:
    """A photo by file and by content."""

    path: Path
    sha256: str
    """Of its decoded pixels and their shape."""

    def load(self) -> Image:
        """Decode it again; photos are never kept."""
        return image_from_file(self.path)


@dataclass(frozen=True)
class Pair:
    """One sample: two photos, a question, and the reply that the label implies."""

    item: Item
    query: Photo
    reference: Photo
    truth: CellMask
    question: Question
    reply: str
    answer: str
    held_out: bool


@dataclass(frozen=True)
class PairSet:
    """The pairs to calibrate on, and how they were chosen."""

    pairs: tuple[Pair, ...]
    left_out: dict[str, int]
    checked_against: int
    """Different acceptance photos that none of the pairs' photos is among."""

    @property
    def photos(self) -> tuple[Photo, ...]:
        """Return every different photo once, by content, in the order of first use."""
        every = (photo for pair in self.pairs for photo in (pair.query, pair.reference))
        return tuple({photo.sha256: photo for photo in every}.values())


@dataclass(frozen=True)
class Choice:
    """How many pairs are wanted."""

    count: int | None = None
    """At most so many, spread over the file and over both labels; None for all."""
    minimum: int = MIN_SAMPLES
    held_out: float = 0.25
    """Share of each label that errors are measured on."""

    def __post_init__(self) -> None:
        """Refuse a minimum (ValueError) that would leave nothing to hold out."""
        if self.minimum < 4:
            raise ValueError(f"a minimum of {self.minimum} pairs, wanted at least 4")


def pairs_from_csv(
    path: Path, grid: tuple[int, int], choice: Choice | None = None, accept: Sequence[Path] = ()
) -> PairSet:
    """Choose pairs from the train split of a labelled set.

    Raises ItemsError when they are too few, all good, all defective, the same photo twice, not readable, or among the
    acceptance items: those of the same file and those of the files `accept`.
    """
    choice = choice or Choice()
    everything = items_from_csv(path)
    known, left_out = _with_truth(chosen_items(everything, SPLIT), grid)
    items = _spread(known, choice.count)
    _check_labels(path, [item.is_defect for item, _ in items])
    _check_count(path, len(items), choice, left_out)
    photos = _Photos()
    pairs = tuple(_pairs(items, everything, choice, photos))
    _check_unique(path, pairs)
    held = _acceptance_photos(path, everything, accept, photos)
    _check_disjoint(path, pairs, held)
    if len(known) > len(items):
        left_out[NOT_CHOSEN] = len(known) - len(items)
    return PairSet(pairs, left_out, len(held))


class _Photos:
    """Decodes every file once for its hash; a fault names the line of the item."""

    def __init__(self) -> None:
        self._hash = lru_cache(maxsize=None)(lambda path: sha256_from_image(image_from_file(path)))

    def photo(self, path: Path, line: int, source: Path | str = "") -> Photo:
        try:
            return Photo(path, self._hash(path))
        except ImageError as error:
            where = f"{source}: line {line}: " if source else f"line {line}: "
            raise ItemsError(f"{where}{error.found}", error.wanted, error.action) from error


def _with_truth(items: Sequence[Item], grid: tuple[int, int]) -> tuple[list[tuple[Item, CellMask]], dict[str, int]]:
    """Keep what a reply can be written for, with its cells; count the rest by reason."""
    known: list[tuple[Item, CellMask]] = []
    left_out: dict[str, int] = {}
    for item in items:
        truth = item.truth(*grid)
        if truth is not None and (len(truth) or not item.is_defect):
            known.append((item, truth))
        else:
            fault = NO_MASK if truth is None else NO_CELL
            left_out[fault] = left_out.get(fault, 0) + 1
    return known, left_out


def _spread(known: list[tuple[Item, CellMask]], count: int | None) -> list[tuple[Item, CellMask]]:
    """Take at most `count`, half of each label if there are enough, evenly over the file so that groups take part."""
    if count is None or count >= len(known):
        return known
    parts = [[pair for pair in known if pair[0].is_defect is label] for label in (False, True)]
    first = min(len(parts[0]), max(count - len(parts[1]), (count + 1) // 2))
    kept = [part[i * len(part) // n] for part, n in zip(parts, (first, count - first), strict=True) for i in range(n)]
    return sorted(kept, key=lambda pair: pair[0].line)


def _check_labels(path: Path, labels: list[bool]) -> None:
    if not labels:
        raise ItemsError(f"{path}: no pair to calibrate on", "good and defective train items", "add items with masks")
    if len(set(labels)) == 1:
        found, other = ("defective", "good parts") if labels[0] else ("good", "known defects with masks")
        raise ItemsError(f"{path}: all {len(labels)} train items are {found}", "both labels", f"add {other}")


def _check_count(path: Path, count: int, choice: Choice, left_out: dict[str, int]) -> None:
    if count < choice.minimum:
        beside = "".join(f", {number} left out ({why})" for why, number in left_out.items())
        wanted = f"at least {choice.minimum}, so that ranges are those of production"
        raise ItemsError(f"{path}: {count} pairs to calibrate on{beside}", wanted, "add train items")


def _pairs(
    items: list[tuple[Item, CellMask]], everything: Sequence[Item], choice: Choice, photos: _Photos
) -> Iterator[Pair]:
    """Give every item its reference, question and reply.

    Letters alternate, also among held-out pairs, and every label that has two items has a held-out one.
    """
    ranks, counts = {False: 0, True: 0}, Counter(item.is_defect for item, _ in items)
    for item, truth in items:
        every = max(2, min(round(1 / choice.held_out), counts[item.is_defect]))
        rank = ranks[item.is_defect]
        ranks[item.is_defect] += 1
        question = detection_question(yes_first=(rank + rank // every) % 2 == 0)
        answer = question.letters[0 if (question.defect_option == 0) is item.is_defect else 1]
        reply = text_from_parts(truth, reason(truth, "defect" if item.is_defect else None), answer)
        query = photos.photo(item.image, item.line)
        reference = photos.photo(reference_candidates(item, everything)[0], item.line)
        yield Pair(item, query, reference, truth, question, reply, answer, held_out=rank % every == every - 1)


def _check_unique(path: Path, pairs: Sequence[Pair]) -> None:
    lines: dict[str, int] = {}
    for pair in pairs:
        line = pair.item.line
        if pair.query.sha256 == pair.reference.sha256:
            found = f"{path}: line {line}: the photo has the pixels of its own reference {pair.reference.path.name}"
            raise ItemsError(found, "two different photos", "drop one of them")
        first = lines.setdefault(pair.query.sha256, line)
        if first != line:
            raise ItemsError(f"{path}: line {line}: the same pixels as line {first}", "each photo once", "drop one")


def _acceptance_photos(
    path: Path, everything: Sequence[Item], accept: Sequence[Path], photos: _Photos
) -> dict[str, str]:
    """Return where each acceptance photo is listed, by its hash."""
    sources = [(path, tuple(item for item in everything if item.split != SPLIT))]
    sources += [(other, chosen_items(items_from_csv(other), "accept")) for other in accept]
    return {
        photos.photo(item.image, item.line, source).sha256: f"{source}, line {item.line}"
        for source, items in sources
        for item in items
    }


def _check_disjoint(path: Path, pairs: Sequence[Pair], held: dict[str, str]) -> None:
    """Refuse photos that judge the result: scales chosen on them would make the acceptance look better than it is."""
    for pair in pairs:
        for name, photo in (("photo", pair.query), ("reference", pair.reference)):
            if photo.sha256 in held:
                found = f"{path}: line {pair.item.line}: the {name} {photo.path.name} is an acceptance item"
                wanted = "calibration photos that acceptance does not use"
                raise ItemsError(f"{found} ({held[photo.sha256]})", wanted, "drop it from one of the sets")
