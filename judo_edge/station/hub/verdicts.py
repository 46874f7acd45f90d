"""From what was found to a verdict: every fault is what the station says for faults, and only a seen part can be OK.

Pure functions: no clock, no disk, no waiting.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from judo_edge.core import Decision
from judo_edge.station.results import Code, Job, Recipe, Result, ResultState, utc_now
from judo_edge.station.workers import Outcome

_ABORTED = frozenset({Code.ABORTED, Code.RESTARTED})


class Finding(NamedTuple):
    """What became of a job."""

    code: Code
    reason: str
    outcome: Outcome | None = None
    """What the inspector said; None when it was not asked."""


class Moments(NamedTuple):
    """When a job's things happened."""

    acquired: str = ""
    total_seconds: float = 0.0


def finding_from_outcome(outcome: Outcome, held_back: str) -> Finding:
    """Return what an inspector's answer means; `held_back` says why the station may not say OK, empty if it may."""
    if outcome.code is Code.INSPECTED and outcome.decision is Decision.OK and held_back:
        return Finding(Code.CHALLENGE_PENDING, held_back, outcome)
    return Finding(outcome.code, outcome.reason, outcome)


def decision_of(finding: Finding, on_fault: Decision) -> Decision:
    """Return what the line does with the part: OK only when it was inspected and found good."""
    said = finding.outcome.decision if finding.outcome else Decision.NOT_DECIDABLE
    if said is Decision.NOK or (said is Decision.OK and finding.code is Code.INSPECTED):
        return said
    return on_fault


def state_of(code: Code) -> ResultState:
    """Return how far the processing went."""
    if code in (Code.INSPECTED, Code.CHALLENGE_PENDING):
        return ResultState.COMPLETED
    return ResultState.ABORTED if code in _ABORTED else ResultState.FAILED


def result_from_finding(
    job: Job, recipe: Recipe | None, finding: Finding, on_fault: Decision, moments: Moments, missed_before: int = 0
) -> Result:
    """Return a job's result, still without its number."""
    request = job.request
    return Result.model_validate({
        "number": 0,
        "result_id": uuid.uuid4().hex,
        "job_id": job.job_id,
        "state": state_of(finding.code),
        "decision": decision_of(finding, on_fault),
        "code": finding.code,
        "reason": finding.reason,
        **request.model_dump(include={"part_id", "meas_id", "product_id", "camera", "origin", "is_simulated"}),
        **_of_recipe(recipe, job),
        **_of_outcome(finding.outcome),
        "created": utc_now(),
        "triggered": job.created,
        "acquired": moments.acquired,
        "total_seconds": max(0.0, moments.total_seconds),
        "missed_before": missed_before,
    })  # fmt: skip


def _of_recipe(recipe: Recipe | None, job: Job) -> dict[str, object]:
    if recipe is None:
        return {"external_recipe_id": job.request.recipe, "internal_recipe_id": job.recipe_id}
    return {
        "external_recipe_id": recipe.external_id,
        "internal_recipe_id": recipe.internal_id,
        **recipe.model_dump(include={"part", "bundle_digest", "references_digest", "decision_version"}),
    }


def _of_outcome(outcome: Outcome | None) -> dict[str, object]:
    names = {"reference_id", "score", "threshold", "judo", "evidence", "mask", "reply", "seconds"}
    return outcome.model_dump(include=names) if outcome else {}
