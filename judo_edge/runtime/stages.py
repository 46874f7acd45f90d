"""The stages of a frame, from photo to verdict, each timed and each over what the ones before have left.

Knows what a stage does with one frame. Which frames go through a stage, and together with which, the inspector knows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from judo_edge.core import Event, EventKind, EventValue, Floats, Frame, Ints, Verdict
from judo_edge.errors import JudoEdgeError
from judo_edge.runtime.asking import Asker, Reading
from judo_edge.runtime.decider import Decider
from judo_edge.runtime.decision import decision_from_reply
from judo_edge.runtime.decoder import PromptInputs
from judo_edge.runtime.drafts import Evidence
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.engines.base import KeysValues
from judo_edge.runtime.gallery import Chosen, Gallery
from judo_edge.runtime.generation import Reasoning
from judo_edge.runtime.inspection import Trace, undecidable, verdict_from_trace
from judo_edge.runtime.model import Model
from judo_edge.runtime.partrecipe import PartRecipe
from judo_edge.runtime.prefixes import PrefixStore
from judo_edge.runtime.references import ReferencePhoto

_log = logging.getLogger(__name__)

Emit = Callable[[Event], None]
"""Is told what becomes known of a frame, as it does."""


def unheard(_: Event) -> None:
    """Let an event pass."""


@dataclass
class Shown:
    """A frame that was brought beside its reference."""

    frame: Frame
    query: Embedding
    chosen: Chosen
    ids: Ints | None = None
    """Tokens of the prompt that the engine has read about them; None when it has read none."""


class Photo(NamedTuple):
    """A frame as the vision graph takes it."""

    patches: Floats
    over: ReferencePhoto | None
    """The reference that it was laid over; None when its part is not aligned."""


class Stages:
    """What is done with one frame after the other."""

    def __init__(
        self,
        model: Model,
        gallery: Gallery,
        prefixes: PrefixStore,
        decider: Decider,
        recipe_of: Callable[[str], PartRecipe],
    ) -> None:
        """Take what the stages work with."""
        self.model, self.gallery, self.decider = model, gallery, decider
        self._prefixes, self._recipe_of = prefixes, recipe_of

    def show(self, frame: Frame, trace: Trace) -> Shown:
        """Bring a frame beside its reference: all stages up to `reference`."""
        photo = self.photo(frame, trace)
        with trace.watch.stage("vision"):
            query = self.model.embedding(photo.patches)
        return self.beside(frame, query, photo.over, trace)

    def photo(self, frame: Frame, trace: Trace) -> Photo:
        """Lay the frame over its reference where its part's recipe asks for it, and cut it into patches."""
        with trace.watch.stage("align"):
            found = self.gallery.aligned(frame)
            over, trace.alignment = found or (None, None)
        with trace.watch.stage("patches"):
            return Photo(self.model.patches(trace.alignment.image if trace.alignment else frame.image), over)

    def beside(self, frame: Frame, query: Embedding, over: ReferencePhoto | None, trace: Trace) -> Shown:
        """Choose the reference."""
        with trace.watch.stage("reference"):
            chosen = self.gallery.chosen(frame, query, over)
        trace.reference = chosen.photo
        return Shown(frame, query, chosen)

    def reading(self, asker: Asker, shown: Shown, trace: Trace) -> Reading:
        """Compare the frame with its references and put its prompt together."""
        with trace.watch.stage("features"):
            trace.features = self.gallery.compared(shown.frame, shown.query)
            evidence = Evidence(shown.frame.part, trace.features.mask(*self.model.grid))
        with trace.watch.stage("prefill"):
            prompt, prefix = self.prompt(asker, shown)
        return Reading(prompt, evidence, prefix)

    def prompt(self, asker: Asker, shown: Shown) -> tuple[PromptInputs, KeysValues | None]:
        """Return the prompt, and the keys and values of its beginning: the text, and a reference that comes first.

        When these must be computed the engine's positions are lost.
        """
        prompt = asker.prompt.juxtapose(shown.query.rows, shown.chosen.embedding.rows)
        ids = asker.prompt.leading_ids()
        if not ids.size:
            return prompt, None
        key = self.gallery.key(shown.chosen.photo) if asker.prompt.order == "normal-first" else None
        return prompt, self._prefixes.get(prompt, ids, key)

    def verdict(self, asker: Asker, frame: Frame, trace: Trace, emit: Emit) -> Verdict:
        """Write the reply to the prompt that was read, and judge it."""
        trace.passes = self.model.decoder.passes
        with trace.watch.stage("decode"):
            reasoning = Reasoning(self._recipe_of(frame.part).reasoning)
            trace.generation = asker.write(teller(frame, trace, emit), reasoning)
        trace.watch.split(trace.passes)
        with trace.watch.stage("parse"):
            trace.reply = asker.reply(trace.generation)
            trace.judo, words = decision_from_reply(trace.reply, asker.question, trace.generation)
            outcome = self.decider.decided(frame.part, trace.judo, words, trace.evidence())
            return verdict_from_trace(frame, trace, outcome)


def verdict_from_fault(frame: Frame, trace: Trace, fault: Exception) -> Verdict:
    """Return NOT_DECIDABLE with the reason; what is no fault of photo, bundle or device is logged as a bug."""
    trace.fault = fault
    if isinstance(fault, JudoEdgeError):
        return undecidable(frame, str(fault), trace)
    _log.error("frame %s could not be inspected", frame.frame_id, exc_info=fault)
    return undecidable(frame, f"internal fault: {type(fault).__name__}: {fault}", trace)


def teller(frame: Frame, trace: Trace, emit: Emit) -> Callable[[EventKind, EventValue], None]:
    """Return what turns news of a frame into its events."""

    def tell(kind: EventKind, value: EventValue) -> None:
        seconds = (time.monotonic_ns() - frame.captured_ns) / 1e9
        emit(Event(kind, frame.frame_id, seconds, len(trace.passes), value))

    return tell
