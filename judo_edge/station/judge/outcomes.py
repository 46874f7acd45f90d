"""What the hub is told of an inspection. A fault is never OK."""

from __future__ import annotations

import math

from judo_edge.core import CellMask, Decision
from judo_edge.errors import EngineError, ImageError, JudoEdgeError, StationError
from judo_edge.runtime.inspection import Inspection
from judo_edge.station.results import Cells, Code
from judo_edge.station.workers import Outcome


def outcome_from_inspection(inspection: Inspection) -> Outcome:
    """Return what an inspection says; NOT_DECIDABLE with its code where it says nothing of the part."""
    verdict, fault = inspection.verdict, inspection.fault
    if fault is not None:
        code = code_from_fault(fault)
    else:
        code = Code.REPLY_INVALID if verdict.decision is Decision.NOT_DECIDABLE else Code.INSPECTED
    decision = verdict.decision if fault is None else Decision.NOT_DECIDABLE
    reason, evidence = verdict.reason, _finite(dict(verdict.evidence))
    if decision is Decision.OK and (len(evidence) < len(verdict.evidence) or not _is_number(verdict.score)):
        decision, code, reason = Decision.NOT_DECIDABLE, Code.ENGINE_FAULT, "a sign or the score is not a number"
    return Outcome(
        decision=decision,
        code=code,
        reason=reason,
        reference_id=verdict.reference_id or "",
        score=verdict.score if _is_number(verdict.score) else None,
        threshold=verdict.threshold,
        judo=verdict.judo,
        evidence=evidence,
        mask=cells_from_mask(inspection.marked),
        reply=verdict.reply.text if verdict.reply else "",
        seconds={stage: round(seconds, 6) for stage, seconds in verdict.timing.seconds.items()},
    )


def outcome_from_fault(fault: Exception) -> Outcome:
    """Return NOT_DECIDABLE with the fault's code and words."""
    text = str(fault) if isinstance(fault, JudoEdgeError) else f"internal fault: {type(fault).__name__}: {fault}"
    code = code_from_fault(fault)
    return Outcome(decision=Decision.NOT_DECIDABLE, code=code, reason=" ".join(text.split()))


def code_from_fault(fault: Exception) -> Code:
    """Tell a photo that cannot be read and a part that cannot be compared from a fault of the engine or a bug."""
    if isinstance(fault, ImageError):
        return Code.PHOTO_UNREADABLE
    is_comparable = isinstance(fault, JudoEdgeError) and not isinstance(fault, (EngineError, StationError))
    return Code.REPLY_INVALID if is_comparable else Code.ENGINE_FAULT


def cells_from_mask(mask: CellMask | None) -> Cells | None:
    """Return a mask as a record, its cells sorted."""
    return None if mask is None else Cells(rows=mask.rows, cols=mask.cols, cells=tuple(sorted(mask.cells)))


def _finite(evidence: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in evidence.items() if math.isfinite(value)}


def _is_number(value: float | None) -> bool:
    return value is None or math.isfinite(value)
