"""The inspector: one frame in, exactly one verdict out.

Knows the order of the stages and that a fault is a verdict. Each stage's work lies in its own module.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.bundle.acceptance import check_accepted
from judo_edge.core import Decision, Floats, Frame, Reply, Timing, Verdict
from judo_edge.errors import BundleError, JudoEdgeError
from judo_edge.protocol.profile import PromptProfile, load_profile, prompt_text
from judo_edge.protocol.questions import Question, detection_question
from judo_edge.protocol.reply import ReplyStream, reply_from_text
from judo_edge.runtime.cells import cell_scores_from_probe
from judo_edge.runtime.decision import decision_from_reply
from judo_edge.runtime.decoder import Decoder
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.generation import Generation, Limits, generate
from judo_edge.runtime.margins import MASK_MARGIN, MarginReader, landmarks_from_tokenizer
from judo_edge.runtime.prefix import prefix_from_bundle
from judo_edge.runtime.prompt import Prompt, embed_from_table
from judo_edge.runtime.references import EmbeddingCache, ReferencePhoto, References
from judo_edge.runtime.sources.folder import Unreadable
from judo_edge.runtime.tokenizer import Tokenizer
from judo_edge.vision.geometry import Preprocessing
from judo_edge.vision.patches import patches_from_image

_log = logging.getLogger(__name__)

STAGES = ("load", "patches", "vision", "reference", "prefill", "decode", "parse")
"""The stages of a frame in order; `load` is timed by the run that reads the photos."""


@dataclass(frozen=True)
class Inspection:
    """A verdict with what a report and an evaluation need besides."""

    verdict: Verdict
    reference: ReferencePhoto | None = None
    cell_scores: Floats | None = None
    """(rows, cols) float32 logits of the dense cell probe; None when the bundle has no probe or nothing was read."""
    ids: tuple[int, ...] = ()
    """All generated ids, the end token included: what parity with another runtime is judged by."""


@dataclass
class Stopwatch:
    """Seconds per stage by a monotonic clock; a stage that fails is timed too."""

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under a name."""
        started = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = self.clock() - started


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
    ) -> None:
        """Read tokenizer, profile and embedding table; the engine must be entered before the first frame.

        `is_guarded` lets the grammar mend a slip inside a mask and end a useless one; if not, replies are plain greedy.
        `accept_failed` names the gates of the bundle's verification that may have failed.

        Raises BundleError when the bundle's parts do not fit together, or when it failed a gate that is not named.
        """
        check_accepted(bundle, accept_failed)
        model = bundle.manifest.model
        self.question = question or detection_question(yes_first=True)
        self.profile = load_profile(bundle.path_of(bundle.manifest.profile))
        self.preprocessing = preprocessing_from_bundle(bundle, self.profile)
        self._engine, self._references = engine, references
        self._tokenizer = Tokenizer.open(bundle.path_of(bundle.manifest.tokenizer))
        self._limits = Limits(frozenset(model.eos_ids), self.profile.max_new_tokens, is_guarded)
        self.grid = (self.profile.grid_rows, self.profile.grid_cols)
        embed = embed_from_table(bundle.embedding_table())
        text = prompt_text(self.profile, self.question, self.preprocessing.num_tokens)
        ids = self._tokenizer.ids_from_text(text)
        side = self.preprocessing.merged_side
        self.prompt = Prompt(ids, embed, model.image_pad_id, side, self.profile.image_order)
        self._decoder = Decoder(engine, embed, prefix_from_bundle(bundle, ids))
        self._landmarks = landmarks_from_tokenizer(self._tokenizer, self.question.letters, *self.grid)
        self._embeddings = EmbeddingCache()

    def inspect(self, frame: Frame) -> Verdict:
        """Return the verdict on a frame; every fault is NOT_DECIDABLE with its reason, never an exception."""
        return self.look(frame).verdict

    def look(self, frame: Frame) -> Inspection:
        """Inspect a frame and keep what led to the verdict."""
        watch, trace = Stopwatch(), _Trace()
        try:
            with watch.stage("patches"):
                patches = patches_from_image(frame.image, self.preprocessing)
            with watch.stage("vision"):
                query = self._encoded(patches)
            with watch.stage("reference"):
                trace.reference = self._references.pick(frame)
                reference = self._reference_rows(trace.reference)
            with watch.stage("prefill"):
                prompt = self.prompt.juxtapose(query, reference)
                trace.probe = self._decoder.prefill(prompt, self._limits.max_new_tokens).cells
            with watch.stage("decode"):
                trace.generation = self._written()
            with watch.stage("parse"):
                trace.reply = self._read(trace.generation)
            return self._judged(frame, trace, watch)
        except JudoEdgeError as fault:
            return Inspection(undecidable(frame, str(fault), watch, trace), trace.reference)
        except Exception as bug:  # the line must get a verdict whatever went wrong
            _log.exception("frame %s could not be inspected", frame.frame_id)
            reason = f"internal fault: {type(bug).__name__}: {bug}"
            return Inspection(undecidable(frame, reason, watch, trace), trace.reference)

    def _encoded(self, patches: Floats) -> Floats:
        # The engine may reuse its output, and the reference is encoded before these rows are read.
        return np.array(self._engine.encode(patches[None]).rows[0], dtype=np.float32, copy=True)

    def _reference_rows(self, reference: ReferencePhoto) -> Floats:
        """Return the (T, D) rows of a reference, keyed by its pixels, the preprocessing and the engine."""
        key = f"{reference.sha256}:{self.preprocessing.model_dump_json()}:{self._engine.digest}"
        return self._embeddings.get(
            key, lambda: self._encoded(patches_from_image(reference.load(), self.preprocessing))
        )

    def _written(self) -> Generation:
        margins = MarginReader(self._landmarks, self.question)
        stream = ReplyStream(*self.grid, self.question.letters)
        return generate(self._decoder, self._tokenizer, margins, stream, self._limits)

    def _read(self, generation: Generation) -> Reply:
        return reply_from_text(generation.text, *self.grid, self.question.letters)

    def _judged(self, frame: Frame, trace: _Trace, watch: Stopwatch) -> Inspection:
        assert trace.generation and trace.reply and trace.reference
        decision, reason = decision_from_reply(trace.reply, self.question, trace.generation)
        margins = dict(trace.generation.margins)
        verdict = Verdict(
            frame_id=frame.frame_id,
            part=frame.part,
            decision=decision,
            reason=reason,
            score=None if decision is Decision.NOT_DECIDABLE else score_from_margins(margins),
            margins=margins,
            reply=trace.reply,
            reference_id=trace.reference.reference_id,
            timing=Timing(watch.seconds),
            num_tokens=len(trace.generation.ids),
            num_held=trace.generation.num_held,
            path=frame.path,
        )
        return Inspection(verdict, trace.reference, self._cell_scores(trace.probe), trace.generation.ids)

    def _cell_scores(self, probe: Floats | None) -> Floats | None:
        if probe is None:
            return None
        # Counted from the end: a prefix that is known already is not in the probe.
        tokens = probe[0, self.prompt.second_photo() - len(self.prompt)]
        return cell_scores_from_probe(tokens, *self.grid)


@dataclass
class _Trace:
    """What a frame has come to so far, so that a fault keeps what was known before it."""

    reference: ReferencePhoto | None = None
    probe: Floats | None = None
    generation: Generation | None = None
    reply: Reply | None = None


def score_from_margins(margins: dict[str, float]) -> float | None:
    """Return the anomaly score in logits: JUDO's margin at the first mask token.

    It is the earliest sign, and it does not depend on the prose that the answer's letter follows. None when the
    reply never came to a mask.
    """
    return margins.get(MASK_MARGIN)


def undecidable(
    frame: Frame | Unreadable, reason: str, watch: Stopwatch | None = None, trace: _Trace | None = None
) -> Verdict:
    """Return the verdict on a frame that could not be inspected."""
    trace = trace or _Trace()
    return Verdict(
        frame_id=frame.frame_id,
        part=frame.part,
        decision=Decision.NOT_DECIDABLE,
        reason=" ".join(reason.split()),
        score=None,
        margins=dict(trace.generation.margins) if trace.generation else {},
        reply=trace.reply,
        reference_id=trace.reference.reference_id if trace.reference else None,
        timing=Timing(watch.seconds if watch else {}),
        num_tokens=len(trace.generation.ids) if trace.generation else 0,
        num_held=trace.generation.num_held if trace.generation else 0,
        path=frame.path,
    )


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
