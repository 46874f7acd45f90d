"""The inspector: one frame in, exactly one verdict out.

Knows the order of the stages and that a fault is a verdict. Each stage's work lies in its own module.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.core import Event, EventKind, EventValue, Frame, Ints, Reply, Verdict
from judo_edge.errors import InputError, JudoEdgeError
from judo_edge.files import sha256_of_bytes
from judo_edge.protocol.questions import Question, detection_question
from judo_edge.runtime.asking import Asker, Manner
from judo_edge.runtime.decider import Decider
from judo_edge.runtime.decision import decision_from_reply
from judo_edge.runtime.decoder import PromptInputs
from judo_edge.runtime.drafts import Drafter, Evidence, ReplyMemory
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.engines.base import Engine, KeysValues
from judo_edge.runtime.gallery import Chosen, Gallery
from judo_edge.runtime.generation import Reasoning
from judo_edge.runtime.inspection import Inspection, Trace, undecidable, verdict_from_trace
from judo_edge.runtime.model import Model
from judo_edge.runtime.partrecipe import PartRecipe
from judo_edge.runtime.prefixes import PrefixStore
from judo_edge.runtime.prompt import Prompt
from judo_edge.runtime.references import ReferencePhoto, References, ReferenceStore
from judo_edge.vision.geometry import Preprocessing

_log = logging.getLogger(__name__)

Emit = Callable[[Event], None]


def _nothing(_: Event) -> None:
    """Let an event pass."""


@dataclass
class Shown:
    """The frame that was brought beside its reference last."""

    frame: Frame
    query: Embedding
    chosen: Chosen
    ids: Ints | None = None
    """Tokens of the prompt that the engine has read about them; None when it has read none."""


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
        store: ReferenceStore | None = None,
    ) -> None:
        """Read tokenizer, profile and embedding table; the engine must be entered before the first frame.

        `is_guarded` and `is_drafting` are explained at `Manner`. `accept_failed` names the gates of the bundle's
        verification that may have failed. `store` holds what is set and remembered of each part: its recipe, the
        embeddings of its references, keys and values, earlier replies; without one, defaults and this process's memory.

        Raises BundleError when the bundle's parts do not fit together, or when it failed a gate that is not named,
        InputError for a question without an option that means a defect.
        """
        self.question = question or detection_question(yes_first=True)
        if self.question.defect_letter is None or len(self.question.options) < 2:
            found = f"question {self.question.text!r}"
            raise InputError(found, "one option that means a defect", "ask a detection question")
        self.model = Model(bundle, engine, accept_failed)
        arrays = store.arrays() if store else None
        self._recipe_of = lru_cache(maxsize=256)(store.recipe if store else _plain_recipe)
        self.gallery = Gallery(self.model, references, self._recipe_of, arrays)
        vocabulary = bundle.manifest.files[bundle.manifest.tokenizer].sha256
        memory = ReplyMemory(store.folder if store else None, vocabulary)
        manner = Manner(is_guarded, is_drafting)
        self._asker_of = lru_cache(maxsize=16)(lambda asked: Asker(self.model, asked, manner, memory))
        self._asker = self._asker_of(self.question)
        self._shown: Shown | None = None
        self.decider = Decider(store, bundle, engine.name)
        self._prefixes = PrefixStore(engine, bundle, arrays, self._asker.exact)

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
        shown = self._show(frame, trace)
        with stage("features"):
            trace.features = self.gallery.compared(frame, shown.query)
            evidence = Evidence(frame.part, trace.features.mask(*self.grid))
        with stage("prefill"):
            prompt = asker.prompt.juxtapose(shown.query.rows, shown.chosen.embedding.rows)
            trace.cell_scores = asker.read(prompt, evidence, self._prefix(prompt, shown.chosen.photo))
            shown.ids, trace.passes = asker.prompt.ids, self.model.decoder.passes
        with stage("decode"):
            reasoning = Reasoning(self._recipe_of(frame.part).reasoning)
            trace.generation = asker.write(lambda kind, value: _tell(frame, trace, emit, kind, value), reasoning)
        trace.watch.split(trace.passes)
        with stage("parse"):
            trace.reply = asker.reply(trace.generation)
            trace.judo, words = decision_from_reply(trace.reply, self.question, trace.generation)
            outcome = self.decider.decided(frame.part, trace.judo, words, trace.evidence())
            return verdict_from_trace(frame, trace, outcome)

    def ask(self, frame: Frame, question: Question, emit: Emit = _nothing) -> Reply:
        """Put another question about a frame; of the frame looked at last only the question is read.

        Raises JudoEdgeError when the frame or its reference cannot be read.
        """
        asker, trace = self._asker_of(question), Trace()
        shown = self._shown if self._shown and self._shown.frame is frame else self._show(frame, trace)
        prompt = asker.prompt.juxtapose(shown.query.rows, shown.chosen.embedding.rows)
        evidence = Evidence(f"{frame.part}?{sha256_of_bytes(question.text.encode())[:12]}")
        known, shown.ids = shown.ids, None
        if known is not None and self.model.decoder.has_room(prompt, self.model.profile.max_new_tokens):
            asker.read_on(prompt, _num_shared(asker.prompt.ids, known), evidence)
        else:
            asker.read(prompt, evidence, self._prefix(prompt, shown.chosen.photo))
        shown.ids, trace.passes = asker.prompt.ids, self.model.decoder.passes
        return asker.reply(asker.write(lambda kind, value: _tell(frame, trace, emit, kind, value)))

    def _show(self, frame: Frame, trace: Trace) -> Shown:
        """Bring a frame beside its reference; the stages up to `reference`."""
        stage, self._shown = trace.watch.stage, None
        with stage("align"):
            over = self._laid(frame, trace)
        with stage("patches"):
            patches = self.model.patches(trace.alignment.image if trace.alignment else frame.image)
        with stage("vision"):
            query = self.model.embedding(patches)
        with stage("reference"):
            chosen = self.gallery.chosen(frame, query, over)
        trace.reference = chosen.photo
        self._shown = Shown(frame, query, chosen)
        return self._shown

    def _laid(self, frame: Frame, trace: Trace) -> ReferencePhoto | None:
        """Lay the frame over its reference where its part's recipe asks for it."""
        found = self.gallery.aligned(frame)
        if found is None:
            return None
        photo, trace.alignment = found
        return photo

    def _prefix(self, prompt: PromptInputs, reference: ReferencePhoto) -> KeysValues | None:
        """Return the keys and values of the prompt's beginning: the text, and the reference where it comes first."""
        ids = self.prompt.leading_ids()
        if not ids.size:
            return None
        key = self.gallery.key(reference) if self.prompt.order == "normal-first" else None
        return self._prefixes.get(prompt, ids, key)


def _tell(frame: Frame, trace: Trace, emit: Emit, kind: EventKind, value: EventValue) -> None:
    seconds = (time.monotonic_ns() - frame.captured_ns) / 1e9
    emit(Event(kind, frame.frame_id, seconds, len(trace.passes), value))


def _num_shared(one: Ints, other: Ints) -> int:
    """Count the tokens that two prompts begin with alike; at least the last of the first stays to be read."""
    length = min(one.size - 1, other.size)
    differ = np.flatnonzero(one[:length] != other[:length])
    return int(differ[0]) if differ.size else length


def _plain_recipe(_: str) -> PartRecipe:
    """Return the recipe of a part of which nothing is set."""
    return PartRecipe()
