"""Frames in, outcomes out: what the inspector's model thread does with a photo, and what it does between frames."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from judo_edge.core import Decision, Event, EventKind, Frame, Image
from judo_edge.errors import ImageError, JudoEdgeError, first_line
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.records import record_from_event
from judo_edge.station.judge.archive import Archive, Held, HeldFrames
from judo_edge.station.judge.outcomes import outcome_from_fault, outcome_from_inspection
from judo_edge.station.judge.photos import image_from_spooled
from judo_edge.station.judge.prepared import Bench, Prepared
from judo_edge.station.judge.questions import piece_from_event, piece_from_reply, question_from_text
from judo_edge.station.results import Code
from judo_edge.station.workers import Kept, Outcome, Spooled
from judo_edge.vision.photos import image_from_file

Emit = Callable[[Any], None]

_log = logging.getLogger(__name__)


class Inspecting:
    """Inspects spooled photos by prepared recipes; `inspect` and `ask` belong to the model thread."""

    def __init__(self, bench: Bench, archive: Archive, spool: Path) -> None:
        """Take what is worked with; `spool` is the folder of the photos under way."""
        self._bench, self._archive, self._spool = bench, archive, spool
        self._held = HeldFrames()
        self._waiting: dict[str, Spooled] = {}
        self._lock = threading.Lock()
        self.num_faults = 0
        """Engine faults in a row: after a few of them a new process does better."""

    def expect(self, job_id: str, spooled: Spooled) -> None:
        """Note a photo that waits for its turn, so that it can be kept before."""
        with self._lock:
            self._waiting[job_id] = spooled

    def forget(self, job_id: str) -> None:
        """Note that a photo waits no longer."""
        with self._lock:
            self._waiting.pop(job_id, None)

    def inspect(self, job_id: str, internal_id: str, spooled: Spooled, emit: Emit) -> None:
        """Emit `{"progress": record}` as things become known, then `{"outcome": record}`; never raises for a photo."""
        try:
            outcome = self._outcome(job_id, internal_id, spooled, emit)
        except Exception as fault:  # the hub must get an outcome whatever went wrong
            is_known = isinstance(fault, JudoEdgeError)
            _log.warning("job %s: %s", job_id, first_line(fault), exc_info=None if is_known else fault)
            outcome = outcome_from_fault(fault)
        emit({"outcome": outcome.model_dump(mode="json", exclude_defaults=True)})

    def keep(self, job_id: str, result_id: str, decision: Decision) -> Kept:
        """Write photo and mask of a job's frame into the archive; nothing when it is not wanted or held no more."""
        held = self._held.take(job_id) or self._unseen(job_id)
        return self._archive.keep(held, result_id, decision) if held and self._archive.wants(decision) else Kept()

    def ask(self, photo: Path, prepared: Prepared, text: str, emit: Emit) -> None:
        """Put a person's question about a photo, such as one of the archive, and emit the answer in pieces.

        JudoEdgeError says why that cannot be.
        """
        question, image = question_from_text(text), image_from_file(self._archive.folder / photo)
        frame = Frame("question", prepared.recipe.part, image, time.monotonic_ns())

        def tell(event: Event) -> None:
            if piece := piece_from_event(event, question):
                emit(piece)

        if rest := piece_from_reply(prepared.inspector.ask(frame, question, tell)):
            emit(rest)

    def _outcome(self, job_id: str, internal_id: str, spooled: Spooled, emit: Emit) -> Outcome:
        image = image_from_spooled(self._spool, spooled)
        self._hold(job_id, Held(image))
        prepared = self._bench.prepared(internal_id)
        inspection = _looked(prepared, job_id, image, spooled, emit)
        if inspection.marked:
            self._hold(job_id, Held(image, inspection.marked))
        outcome = outcome_from_inspection(inspection)
        self.num_faults = self.num_faults + 1 if outcome.code is Code.ENGINE_FAULT else 0
        return outcome

    def _hold(self, job_id: str, frame: Held) -> None:
        if self._archive.wants(Decision.NOK):  # whoever keeps none of the bad ones keeps none at all
            self._held.hold(job_id, frame)

    def _unseen(self, job_id: str) -> Held | None:
        """Return the photo of a job whose turn has not come; None when there is none to be read."""
        with self._lock:
            spooled = self._waiting.get(job_id)
        try:
            return Held(image_from_spooled(self._spool, spooled)) if spooled else None
        except ImageError:
            return None


def _looked(prepared: Prepared, job_id: str, image: Image, spooled: Spooled, emit: Emit) -> Inspection:
    def tell(event: Event) -> None:
        if event.kind is not EventKind.VERDICT:  # that is the outcome, and it is told once
            emit({"progress": record_from_event(event)})

    frame = Frame(job_id, prepared.recipe.part, image, spooled.captured_ns, spooled.path)
    return prepared.inspector.look(frame, tell)
