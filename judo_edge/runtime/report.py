"""The report of a run: one HTML file that needs nothing else, for the people at the line.

Knows what a card shows. Everything that a model or a file name says passes the template's escaping; photos wait in a
temporary file, so that a long run does not pile up in memory.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from judo_edge.bundle.acceptance import NOT_VERIFIED
from judo_edge.core import CellMask, Decision, Frame, Image, Timing, Verdict
from judo_edge.errors import InputError
from judo_edge.files import output_errors
from judo_edge.runtime.heat import heat_from_inspection, png_from_heat
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.masks import path_from_cells, path_from_grid
from judo_edge.runtime.photos import jpeg_from_image
from judo_edge.runtime.references import ReferencePhoto
from judo_edge.runtime.sources.folder import Unreadable
from judo_edge.runtime.stopwatch import STAGES

if TYPE_CHECKING:
    from jinja2 import Template

LONGEST_SIDE = 480
"""Pixels of the longer side of a photo in the report."""
_LABELS = {Decision.OK: "OK", Decision.NOK: "NOK", Decision.NOT_DECIDABLE: "Not decidable"}


@dataclass(frozen=True)
class RunFacts:
    """What the head of the report says of a run."""

    part: str
    bundle: str
    """Name of the bundle."""
    digest: str
    """SHA-256 of its manifest."""
    grid: tuple[int, int]
    """Rows and columns of the mask grid."""
    num_frames: int
    """Frames that the run was to inspect."""
    acceptance: str = NOT_VERIFIED
    """What the bundle's verification said, on one line."""


@dataclass(frozen=True)
class Photo:
    """A photo in the temporary file."""

    offset: int
    size: int
    ratio: float
    """Width over height."""


@dataclass(frozen=True)
class Card:
    """One frame in the report."""

    index: int
    verdict: Verdict
    query: Photo | None
    reference_class: str
    """CSS class that shows the reference; empty when there was none."""
    new_reference: Photo | None
    """The reference's photo, on the first card that shows it."""
    reference_ratio: float = 1.0
    marked: CellMask | None = None
    """The marked cells, where they lie in the frame as it was taken; None when no mask was read."""
    heat: Photo | None = None
    """The feature distance over the frame; None when it was not compared."""
    query_data: str = ""
    reference_data: str = ""
    heat_data: str = ""

    @property
    def label(self) -> str:
        """Return the decision for people."""
        return _LABELS[self.verdict.decision]

    @property
    def cells(self) -> str:
        """Return the SVG path of the mask."""
        return path_from_cells(self.marked) if self.marked else ""

    @property
    def num_cells(self) -> int | None:
        """Count the marked cells; None when no mask was read."""
        return None if self.marked is None else len(self.marked)

    @property
    def stages(self) -> list[tuple[str, float, float]]:
        """List (stage, milliseconds, share of the total in percent) in the order of the stages."""
        return _stage_rows(self.verdict.timing)


class Report:
    """Collects cards and writes the page at the end; opened by `with`, which removes the temporary file."""

    def __init__(self, path: Path, facts: RunFacts) -> None:
        """Name the file to write."""
        self.path = path
        self._facts = facts
        self._cards: list[Card] = []
        self._references: dict[str, float] = {}
        self._photos: IO[bytes] | None = None

    def add(self, item: Frame | Unreadable, inspection: Inspection) -> None:
        """Add the card of one frame."""
        query = self._photo(item.image) if isinstance(item, Frame) else None
        heat = self._heat(item.image, inspection) if isinstance(item, Frame) else None
        css_class, photo = self._reference(inspection.reference)
        index = len(self._cards)
        ratio = self._references.get(css_class, 1.0)
        self._cards.append(Card(index, inspection.verdict, query, css_class, photo, ratio, inspection.marked, heat))

    def write(self, interrupted: bool = False) -> None:
        """Write the page beside and rename it; OutputError when it cannot be written."""
        partial = self.path.with_name(f"{self.path.name}.partial-{os.getpid()}")
        try:
            with output_errors(self.path):
                with partial.open("w", encoding="utf-8", errors="replace") as page:
                    page.writelines(_template().generate(**self._context(interrupted)))
                partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)

    def __enter__(self) -> Report:
        """Nothing to open: the temporary file is made with the first photo."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the photos."""
        if self._photos is not None:
            with suppress(OSError):  # closing tries once more to write what a full disk refused
                self._photos.close()

    def _context(self, interrupted: bool) -> dict[str, object]:
        counts = Counter(card.verdict.decision for card in self._cards)
        return {
            "facts": self._facts,
            "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "interrupted": interrupted,
            "num_cards": len(self._cards),
            "counts": [(decision.value, _LABELS[decision], counts[decision]) for decision in Decision],
            "stages": _stage_medians([card.verdict.timing for card in self._cards]),
            "grid_path": path_from_grid(*self._facts.grid),
            "cards": self._cards_with_photos(),
        }

    def _cards_with_photos(self) -> Iterator[Card]:
        for card in self._cards:
            query, reference, heat = (self._data(photo) for photo in (card.query, card.new_reference, card.heat))
            yield replace(card, query_data=query, reference_data=reference, heat_data=heat)

    def _reference(self, reference: ReferencePhoto | None) -> tuple[str, Photo | None]:
        if reference is None:
            return "", None
        css_class = f"ref-{reference.sha256[:16]}"
        if css_class in self._references:
            return css_class, None
        try:
            photo = self._photo(reference.load())
        except InputError:  # an unreadable reference is the verdict's reason already
            return "", None
        self._references[css_class] = photo.ratio
        return css_class, photo

    def _photo(self, image: Image) -> Photo:
        return self._stored(jpeg_from_image(image, LONGEST_SIDE), image)

    def _heat(self, image: Image, inspection: Inspection) -> Photo | None:
        heat = heat_from_inspection(inspection, *image.shape[:2])
        return None if heat is None else self._stored(png_from_heat(heat), image)

    def _stored(self, content: bytes, image: Image) -> Photo:
        with output_errors(self.path):
            if self._photos is None:
                self._photos = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
            offset = self._photos.seek(0, os.SEEK_END)
            self._photos.write(content)
            self._photos.flush()
        return Photo(offset, len(content), image.shape[1] / image.shape[0])

    def _data(self, photo: Photo | None) -> str:
        if photo is None or self._photos is None:
            return ""
        self._photos.seek(photo.offset)
        return base64.b64encode(self._photos.read(photo.size)).decode("ascii")


def _stage_rows(timing: Timing) -> list[tuple[str, float, float]]:
    total = timing.total or 1.0
    known = [(stage, timing.seconds[stage]) for stage in STAGES if stage in timing.seconds]
    return [(stage, seconds * 1e3, 100 * seconds / total) for stage, seconds in known]


def _stage_medians(timings: list[Timing]) -> list[tuple[str, float, float]]:
    """List the stages with their median milliseconds over the frames that came to them."""
    medians = {}
    for stage in STAGES:
        values = sorted(timing.seconds[stage] for timing in timings if stage in timing.seconds)
        if values:
            medians[stage] = values[len(values) // 2]
    return _stage_rows(Timing(medians))


def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("judo_edge.runtime", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")
