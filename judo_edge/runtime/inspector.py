"""The inspector: one frame in, exactly one verdict out.

Knows the order of the stages and that a fault is a verdict. Each stage's work lies in its own module.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.bundle.acceptance import check_accepted
from judo_edge.core import CellMask, Decision, Event, EventKind, EventValue, Floats, Frame, Reply, Verdict
from judo_edge.errors import BundleError, JudoEdgeError
from judo_edge.protocol.profile import PromptProfile, load_profile, prompt_text
from judo_edge.protocol.questions import Question, detection_question
from judo_edge.protocol.reply import ReplyStream, reply_from_text
from judo_edge.runtime.cells import cell_scores_from_probe
from judo_edge.runtime.decision import decision_from_reply
from judo_edge.runtime.decoder import Decoder, PromptInputs
from judo_edge.runtime.drafts import Drafter, Evidence, ReplyMemory, drafter_from_tokenizer
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.generation import Ending, Generation, Limits, Reasoning, Writer
from judo_edge.runtime.inspection import Inspection, Trace, undecidable, verdict_from_trace
from judo_edge.runtime.margins import MASK_MARGIN, MarginReader, landmarks_from_tokenizer
from judo_edge.runtime.prefix import prefix_from_bundle
from judo_edge.runtime.prompt import Prompt, embed_from_table
from judo_edge.runtime.references import EmbeddingCache, ReferencePhoto, References
from judo_edge.runtime.tokenizer import Tokenizer
from judo_edge.vision.geometry import Preprocessing
from judo_edge.vision.patches import patches_from_image

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

        `is_guarded` lets the grammar mend a slip inside a mask and end a useless one; if not, replies are plain greedy.
        `accept_failed` names the gates of the bundle's verification that may have failed. `is_drafting` guesses tokens
        ahead, which changes no reply; `memory` keeps earlier replies to guess from over a restart. `reasoning` says for
        which parts more than the mask is asked.

        Raises BundleError when the bundle's parts do not fit together, or when it failed a gate that is not named.
        """
        check_accepted(bundle, accept_failed)
        model = bundle.manifest.model
        self.question = question or detection_question(yes_first=True)
        self.profile = load_profile(bundle.path_of(bundle.manifest.profile))
        self.preprocessing = preprocessing_from_bundle(bundle, self.profile)
        self._engine, self._references = engine, references
        self._tokenizer = Tokenizer.open(bundle.path_of(bundle.manifest.tokenizer))
        self._limits = Limits(frozenset(model.eos_ids), self.profile.max_new_tokens, is_guarded, reasoning)
        self.grid = (self.profile.grid_rows, self.profile.grid_cols)
        embed = embed_from_table(bundle.embedding_table())
        text = prompt_text(self.profile, self.question, self.preprocessing.num_tokens)
        ids = self._tokenizer.ids_from_text(text)
        side = self.preprocessing.merged_side
        self.prompt = Prompt(ids, embed, model.image_pad_id, side, self.profile.image_order)
        self._decoder = Decoder(engine, embed)
        self._prefix = prefix_from_bundle(bundle, ids)
        self.drafter: Drafter | None = None
        """Guesses tokens ahead; None when it is switched off."""
        if is_drafting:
            letters = self.question.letters
            self.drafter = drafter_from_tokenizer(
                self._tokenizer, self._limits.end_tokens, letters, self.grid, memory or ReplyMemory(None, "")
            )
        self._writer = Writer(self._decoder, self._tokenizer, self._limits, self.drafter)
        self._landmarks = landmarks_from_tokenizer(self._tokenizer, self.question.letters, *self.grid)
        self._embeddings = EmbeddingCache()

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
        self._tell(frame, emit, EventKind.VERDICT, verdict)
        return trace.inspection(verdict)

    def _judged(self, frame: Frame, trace: Trace, emit: Emit) -> Verdict:
        stage = trace.watch.stage
        with stage("patches"):
            patches = patches_from_image(frame.image, self.preprocessing)
        with stage("vision"):
            query = self._encoded(patches)
        with stage("reference"):
            trace.reference = self._references.pick(frame)
            reference = self._reference_rows(trace.reference)
        with stage("prefill"):
            trace.cell_scores = self._read_prompt(frame, self.prompt.juxtapose(query, reference), trace)
        with stage("decode"):
            trace.generation = self._written(frame, emit)
        trace.watch.split(trace.passes)
        with stage("parse"):
            trace.reply = self._read(trace.generation)
            decision, reason = decision_from_reply(trace.reply, self.question, trace.generation)
            score = None if decision is Decision.NOT_DECIDABLE else score_from_margins(trace.generation.margins)
            return verdict_from_trace(frame, trace, decision, reason, score)

    def _encoded(self, patches: Floats) -> Floats:
        # The engine may reuse its output, and the reference is encoded before these rows are read.
        return np.array(self._engine.encode(patches[None])[0], dtype=np.float32, copy=True)

    def _reference_rows(self, reference: ReferencePhoto) -> Floats:
        """Return the (T, D) rows of a reference, keyed by its pixels, the preprocessing and the engine."""
        key = f"{reference.sha256}:{self.preprocessing.model_dump_json()}:{self._engine.digest}"
        return self._embeddings.get(
            key, lambda: self._encoded(patches_from_image(reference.load(), self.preprocessing))
        )

    def _read_prompt(self, frame: Frame, prompt: PromptInputs, trace: Trace) -> Floats | None:
        """Read the prompt and a first draft in one pass; return the cell probe's (rows, cols), None without one."""
        cap = self._limits.max_new_tokens
        draft: tuple[int, ...] = ()
        evidence = Evidence(frame.part)
        if self.drafter:
            self.drafter.begin(evidence)
            draft = self.drafter.next_draft(cap - 1)
        decoded = self._decoder.prefill(prompt, cap, draft, self._prefix)
        trace.passes = self._decoder.passes
        if decoded.cells is None:
            return None
        # Counted from the prompt's end: a known prefix is not in the probe, and drafted tokens are.
        tokens = decoded.cells[0, self.prompt.second_photo() - len(self.prompt) - len(draft)]
        scores = cell_scores_from_probe(tokens, *self.grid)
        evidence.marked = CellMask.from_array(scores > 0)
        return scores

    def _written(self, frame: Frame, emit: Emit) -> Generation:
        margins = MarginReader(self._landmarks, self.question)
        stream = ReplyStream(*self.grid, self.question.letters)
        generation = self._writer.write(margins, stream, lambda kind, value: self._tell(frame, emit, kind, value))
        if self.drafter:
            self.drafter.finish(self._decoder.passes)
        return generation

    def _tell(self, frame: Frame, emit: Emit, kind: EventKind, value: EventValue) -> None:
        seconds = (time.monotonic_ns() - frame.captured_ns) / 1e9
        emit(Event(kind, frame.frame_id, seconds, len(self._decoder.passes), value))

    def _read(self, generation: Generation) -> Reply:
        reply = reply_from_text(generation.text, *self.grid, self.question.letters)
        if generation.ending is Ending.UNASKED:  # what was not asked for is not missing
            reply = replace(reply, problems=tuple(text for text in reply.problems if not text.endswith("is missing")))
        return reply


def score_from_margins(margins: Mapping[str, float]) -> float | None:
    """Return the anomaly score in logits: JUDO's margin at the first mask token.

    It is the earliest sign, and it does not depend on the prose that the answer's letter follows. None when the
    reply never came to a mask.
    """
    return margins.get(MASK_MARGIN)


def preprocessing_from_bundle(bundle: Bundle, profile: PromptProfile) -> Preprocessing:
    """Return how photos become patches: the profile's resize, everything else from the manifest.

    Raises BundleError when profile and graph are made for different photo sizes.
    """
    model, recorded = bundle.manifest.model, bundle.manifest.preprocessing
    if profile.image_size != recorded.image_size:
        found = f"a profile for {profile.image_size} pixels with graphs for {recorded.image_size}"
        raise BundleError(found, "the same photo size", "export the bundle again")
    return Preprocessing(
        resize=profile.resize,
        image_size=recorded.image_size,
        patch_size=model.patch_size,
        temporal_patch_size=model.temporal_patch_size,
        merge_size=model.spatial_merge_size,
        mean=recorded.mean,
        std=recorded.std,
    )
