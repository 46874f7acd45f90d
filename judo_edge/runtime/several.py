"""Frames that wait at the same time go through vision and decoder together; a fault of one costs that one alone.

Each frame's own stages run one after the other; only encoding and reading are shared. When what is shared fails, the
frames that have no verdict yet are inspected alone. No event of a frame is told before its prompt is read, so none is
told twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from judo_edge.core import EventKind, Floats, Frame, Verdict
from judo_edge.runtime.arraystore import ArrayKey
from judo_edge.runtime.asking import Asker, Read, Reading
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.inspection import Inspection, Trace
from judo_edge.runtime.references import ReferencePhoto
from judo_edge.runtime.stages import Emit, Photo, Shown, Stages, teller, verdict_from_fault

_log = logging.getLogger(__name__)

MAX_IMAGES = 8
"""Photos that are encoded in one call: scores of full attention take 107 MB a photo at 504 pixels with 16 heads."""

Alone = Callable[[Frame, Emit], Inspection]


@dataclass
class _View:
    """One of the frames, as far as it has come."""

    frame: Frame
    emit: Emit
    trace: Trace = field(default_factory=Trace)
    inspection: Inspection | None = None
    """What came of it; None while nothing has."""

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Let a fault end this frame and no other."""
        try:
            yield
        except Exception as fault:  # the line must get a verdict whatever went wrong
            self.finish(verdict_from_fault(self.frame, self.trace, fault))

    def finish(self, verdict: Verdict) -> None:
        """Tell the verdict."""
        teller(self.frame, self.trace, self.emit)(EventKind.VERDICT, verdict)
        self.inspection = self.trace.inspection(verdict)


class _Reference(NamedTuple):
    """A reference that was never encoded."""

    photo: ReferencePhoto
    patches: Floats


class Several:
    """Inspects frames together over the stages of an inspector."""

    def __init__(self, stages: Stages, asker: Asker, alone: Alone) -> None:
        """Ask by `asker`; `alone` inspects one frame."""
        self._stages, self._asker, self._alone = stages, asker, alone

    def look(self, frames: Sequence[Frame], emit: Emit) -> list[Inspection]:
        """Return an inspection for each frame; at most as many as the engine reads together."""
        views = [_View(frame, emit) for frame in frames]
        if len(views) > 1:
            try:
                self._conclude(self._read(self._shown(views)))
            except Exception:  # whatever is shared failed: each frame by itself may do better
                _log.exception("%d frames could not be inspected together", len(views))
        return [view.inspection or self._alone(view.frame, emit) for view in views]

    def _shown(self, views: Sequence[_View]) -> list[tuple[_View, Shown]]:
        """Bring the frames beside their references, all photos encoded in one call."""
        references: dict[ArrayKey, _Reference] = {}
        photos = self._photos(views, references)
        queries = self._embedded(photos, references.values())
        found = []
        for (view, photo), query in zip(photos, queries, strict=True):
            with view.guarded():
                found.append((view, self._stages.beside(view.frame, query, photo.over, view.trace)))
        return found

    def _photos(self, views: Sequence[_View], references: dict[ArrayKey, _Reference]) -> list[tuple[_View, Photo]]:
        """Cut frames into patches, and references that were never encoded; these are added to `references`."""
        found = []
        for view in views:
            with view.guarded():
                photo = self._stages.photo(view.frame, view.trace)
                with view.trace.watch.stage("reference"):
                    self._add_unknown(view.frame, references)
                found.append((view, photo))
        return found

    def _add_unknown(self, frame: Frame, references: dict[ArrayKey, _Reference]) -> None:
        gallery, model = self._stages.gallery, self._stages.model
        for photo in gallery.unknown(frame):
            if (key := gallery.key(photo)) not in references:
                references[key] = _Reference(photo, model.patches(photo.load()))

    def _embedded(self, photos: Sequence[tuple[_View, Photo]], references: Collection[_Reference]) -> list[Embedding]:
        """Encode the frames, and with them the references that are not known."""
        everything = [photo.patches for _, photo in photos] + [one.patches for one in references]
        with _shared([view for view, _ in photos], "vision"):
            chunks = [everything[begin : begin + MAX_IMAGES] for begin in range(0, len(everything), MAX_IMAGES)]
            found = [embedding for chunk in chunks for embedding in self._stages.model.embeddings(chunk)]
        for one, embedding in zip(references, found[len(photos) :], strict=True):
            self._stages.gallery.keep(one.photo, embedding)
        return found[: len(photos)]

    def _read(self, shown: Sequence[tuple[_View, Shown]]) -> list[tuple[_View, Read]]:
        """Read all prompts and first drafts in one pass."""
        readings: list[tuple[_View, Reading]] = []
        for view, its in shown:
            with view.guarded():
                readings.append((view, self._stages.reading(self._asker, its, view.trace)))
        if not readings:
            return []
        views = [view for view, _ in readings]
        with _shared(views, "prefill"):
            found = self._asker.read_together([reading for _, reading in readings])
        return list(zip(views, found, strict=True))

    def _conclude(self, reads: Sequence[tuple[_View, Read]]) -> None:
        """Write and judge the replies; those that are written already come first, so that they wait for no other."""
        ends = self._stages.model.end_tokens
        for view, read in sorted(reads, key=lambda item: not item[1].first.holds_reply(ends)):
            with view.guarded():
                view.trace.cell_scores = self._asker.take_up(read)
                view.finish(self._stages.verdict(self._asker, view.frame, view.trace, view.emit))


@contextmanager
def _shared(views: Sequence[_View], stage: str) -> Iterator[None]:
    """Give each frame its share of the time of the block."""
    started = time.perf_counter()
    yield
    seconds = (time.perf_counter() - started) / max(1, len(views))
    for view in views:
        known = view.trace.watch.seconds
        known[stage] = known.get(stage, 0.0) + seconds
