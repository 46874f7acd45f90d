"""The inspector: one frame in, exactly one verdict out.

Knows the order of the stages and that a fault is a verdict. Each stage's work lies in its own module.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

from judo_edge.bundle import Bundle
from judo_edge.core import Decision, Event, EventKind, EventValue, Floats, Frame, Verdict
from judo_edge.errors import InputError, JudoEdgeError
from judo_edge.protocol.questions import Question, detection_question
from judo_edge.runtime.asking import Asker, Manner
from judo_edge.runtime.decision import decision_from_reply
from judo_edge.runtime.drafts import Drafter, Evidence, ReplyMemory
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.embeddings import EmbeddingCache, embedding_key
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.generation import Reasoning
from judo_edge.runtime.inspection import Inspection, Trace, undecidable, verdict_from_trace
from judo_edge.runtime.margins import MASK_MARGIN
from judo_edge.runtime.model import Model
from judo_edge.runtime.prompt import Prompt
from judo_edge.runtime.references import ReferencePhoto, References
from judo_edge.vision.geometry import Preprocessing

_log = logging.getLogger(__name__)

Emit = Callable[[Event], None]


def _nothing(_: Event) -> None:
    """Let an event pass."""


class Inspector:
    """Compares frames with good parts by one bundle, one engine and one question. One frame at a time."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        references: References,
        question: Question | None = None,
        is_guarded: bool = True,
        accept_failed: Collection[str] = (),
        *,
        is_drafting: bool = True,
        reasoning: Reasoning = Reasoning.ALWAYS,
        memory: ReplyMemory | None = None,
    ) -> None:
        """Read tokenizer, profile and embedding table; the engine must be entered before the first frame.

        `is_guarded`, `is_drafting` and `reasoning` are explained at `Manner`. `accept_failed` names the gates of the
        bundle's verification that may have failed. `memory` keeps earlier replies to guess from over a restart.

        Raises BundleError when the bundle's parts do not fit together, or when it failed a gate that is not named,
        InputError for a question without an option that means a defect.
        """
        self.question = question or detection_question(yes_first=True)
        if self.question.defect_letter is None or len(self.question.options) < 2:
            found = f"question {self.question.text!r}"
            raise InputError(found, "one option that means a defect", "ask a detection question")
        self.model = Model(bundle, engine, accept_failed)
        self._memory = memory or ReplyMemory(None, "")
        manner = Manner(is_guarded, is_drafting, reasoning)
        self._asker = Asker(self.model, self.question, manner, self._memory)
        self._references = references
        self._embeddings = EmbeddingCache()

    @property
    def grid(self) -> tuple[int, int]:
        """Return the rows and columns of masks."""
        return self.model.grid

    @property
    def prompt(self) -> Prompt:
        """Return the prompt, complete but for the photos."""
        return self._asker.prompt

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how photos become patches."""
        return self.model.preprocessing

    @property
    def drafter(self) -> Drafter | None:
        """Return what guesses tokens ahead; None when it is switched off."""
        return self._asker.drafter

    def inspect(self, frame: Frame) -> Verdict:
        """Return the verdict on a frame; every fault is NOT_DECIDABLE with its reason, never an exception."""
        return self.look(frame).verdict

    def look(self, frame: Frame, emit: Emit = _nothing) -> Inspection:
        """Inspect a frame and keep what led to the verdict; `emit` is told what becomes known, the verdict last."""
        trace = Trace()
        try:
            verdict = self._judged(frame, trace, emit)
        except JudoEdgeError as fault:
            verdict = undecidable(frame, str(fault), trace)
        except Exception as bug:  # the line must get a verdict whatever went wrong
            _log.exception("frame %s could not be inspected", frame.frame_id)
            verdict = undecidable(frame, f"internal fault: {type(bug).__name__}: {bug}", trace)
        _tell(frame, trace, emit, EventKind.VERDICT, verdict)
        return trace.inspection(verdict)

    def _judged(self, frame: Frame, trace: Trace, emit: Emit) -> Verdict:
        asker, stage = self._asker, trace.watch.stage
        with stage("patches"):
            patches = self.model.patches(frame.image)
        with stage("vision"):
            query = self.model.encoded(patches)
        with stage("reference"):
            trace.reference = self._references.pick(frame)
            reference = self._reference_rows(trace.reference)
        with stage("prefill"):
            trace.cell_scores = asker.read(asker.prompt.juxtapose(query, reference), Evidence(frame.part))
            trace.passes = self.model.decoder.passes
        with stage("decode"):
            trace.generation = asker.write(lambda kind, value: _tell(frame, trace, emit, kind, value))
        trace.watch.split(trace.passes)
        with stage("parse"):
            trace.reply = asker.reply(trace.generation)
            decision, reason = decision_from_reply(trace.reply, self.question, trace.generation)
            score = None if decision is Decision.NOT_DECIDABLE else score_from_margins(trace.generation.margins)
            return verdict_from_trace(frame, trace, decision, reason, score)

    def _reference_rows(self, reference: ReferencePhoto) -> Floats:
        """Return the (T, D) rows of a reference, keyed by its pixels, the preprocessing and the engine."""
        key = embedding_key(reference, self.preprocessing, self.model.engine.digest)
        return self._embeddings.get(
            key, lambda: Embedding(self.model.encoded(self.model.patches(reference.load())))
        ).rows


def _tell(frame: Frame, trace: Trace, emit: Emit, kind: EventKind, value: EventValue) -> None:
    seconds = (time.monotonic_ns() - frame.captured_ns) / 1e9
    emit(Event(kind, frame.frame_id, seconds, len(trace.passes), value))


def score_from_margins(margins: Mapping[str, float]) -> float | None:
    """Return the anomaly score in logits: JUDO's margin at the first mask token.

    It is the earliest sign, and it does not depend on the prose that the answer's letter follows. None when the
    reply never came to a mask.
    """
    return margins.get(MASK_MARGIN)
