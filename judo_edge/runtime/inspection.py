"""What an inspection leaves: the verdict and what led to it, also when it failed half-way. Knows no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from judo_edge.core import CellMask, Decision, Floats, Frame, Reply, Timing, Verdict
from judo_edge.runtime.align import Alignment, cells_in_frame
from judo_edge.runtime.decider import Outcome
from judo_edge.runtime.decoder import Pass
from judo_edge.runtime.generation import Generation
from judo_edge.runtime.partfeatures import FeatureMap
from judo_edge.runtime.references import ReferencePhoto
from judo_edge.runtime.sources.folder import Unreadable
from judo_edge.runtime.stopwatch import Stopwatch

CELL_PROBE, FEATURE_DISTANCE = "cell_probe", "feature_distance"
"""Names of signs beside JUDO's margins: the probe's largest cell, logits; the score of the feature map."""


@dataclass(frozen=True)
class Inspection:
    """A verdict with what a report and an evaluation need besides."""

    verdict: Verdict
    reference: ReferencePhoto | None = None
    cell_scores: Floats | None = None
    """(rows, cols) float32 logits of the dense cell probe; None when the bundle has no probe or nothing was read."""
    ids: tuple[int, ...] = ()
    """All generated ids, the end token included: what parity with another runtime is judged by."""
    features: FeatureMap | None = None
    """How far the frame is from all references of its part, place by place."""
    alignment: Alignment | None = None
    """How the frame was laid over its reference; None when its part's recipe aligns nothing."""
    fault: Exception | None = None
    """Why the frame could not be inspected; None when it was."""

    @property
    def marked(self) -> CellMask | None:
        """Return the cells that the reply marks, where they lie in the frame as it was taken; None without a mask."""
        mask = self.verdict.reply.mask if self.verdict.reply else None
        return mask if mask is None or self.alignment is None else cells_in_frame(mask, self.alignment)


@dataclass
class Trace:
    """What a frame has come to so far, so that a fault keeps what was known before it."""

    watch: Stopwatch = field(default_factory=Stopwatch)
    reference: ReferencePhoto | None = None
    alignment: Alignment | None = None
    features: FeatureMap | None = None
    cell_scores: Floats | None = None
    passes: Sequence[Pass] = ()
    generation: Generation | None = None
    reply: Reply | None = None
    judo: Decision | None = None
    fault: Exception | None = None

    def evidence(self) -> dict[str, float]:
        """Return the signs of a defect that are known, larger is worse: what a calibrated decision is made from."""
        signs = dict(self.generation.margins) if self.generation else {}
        if self.cell_scores is not None:
            signs[CELL_PROBE] = float(self.cell_scores.max())
        if self.features is not None:
            signs[FEATURE_DISTANCE] = self.features.score
        return signs

    def inspection(self, verdict: Verdict) -> Inspection:
        """Return the verdict with what led to it."""
        ids = self.generation.ids if self.generation else ()
        return Inspection(verdict, self.reference, self.cell_scores, ids, self.features, self.alignment, self.fault)


def verdict_from_trace(frame: Frame | Unreadable, trace: Trace, outcome: Outcome) -> Verdict:
    """Return the verdict on a frame with all that is known of it."""
    generation = trace.generation
    return Verdict(
        frame_id=frame.frame_id,
        part=frame.part,
        decision=outcome.decision,
        reason=outcome.reason,
        score=outcome.score,
        margins=dict(generation.margins) if generation else {},
        reply=trace.reply,
        reference_id=trace.reference.reference_id if trace.reference else None,
        timing=Timing(trace.watch.seconds),
        num_tokens=len(generation.ids) if generation else 0,
        num_held=generation.num_held if generation else 0,
        path=frame.path,
        num_passes=len(trace.passes),
        num_drafted=sum(run.num_drafted for run in trace.passes),
        num_accepted=sum(run.num_accepted for run in trace.passes),
        evidence=trace.evidence(),
        judo=trace.judo,
        threshold=outcome.threshold,
    )


def undecidable(frame: Frame | Unreadable, reason: str, trace: Trace | None = None) -> Verdict:
    """Return the verdict on a frame that could not be inspected."""
    outcome = Outcome(Decision.NOT_DECIDABLE, " ".join(reason.split()), None, None)
    return verdict_from_trace(frame, trace or Trace(), outcome)
