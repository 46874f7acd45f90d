"""From a reply to a decision. For now JUDO's own words decide, with its mask as a witness.

| answer    | mask      | decision                                                          |
|-----------|-----------|-------------------------------------------------------------------|
| no defect | empty     | OK                                                                |
| defect    | any       | NOK                                                               |
| no defect | has cells | NOK: the two disagree, and the part with a marked defect is held  |
| not asked | empty / has cells | OK / NOK: the mask alone                                   |
| invalid reply, letter not offered | | NOT_DECIDABLE                                             |
"""

from __future__ import annotations

from judo_edge.core import Decision, Reply
from judo_edge.protocol.questions import Question
from judo_edge.runtime.generation import Ending, Generation


def decision_from_reply(reply: Reply, question: Question, generation: Generation) -> tuple[Decision, str]:
    """Return the decision and its reason in words."""
    if not reply.is_valid or reply.mask is None:
        return Decision.NOT_DECIDABLE, _invalid_reason(reply, generation)
    if generation.ending is Ending.UNASKED:
        decision = Decision.NOK if len(reply.mask) else Decision.OK
        return decision, f"by the mask alone: {_cells(len(reply.mask))} marked"
    says_defect = question.says_defect(reply.answer)
    if says_defect is None:
        return Decision.NOT_DECIDABLE, f"answer {reply.answer} is none of the offered {', '.join(question.letters)}"
    reason = (reply.think or "").strip() or "no reason given"
    if says_defect != bool(len(reply.mask)):
        reason = f"{_disagreement(says_defect, len(reply.mask))}; {reason}"
    is_nok = says_defect or len(reply.mask) > 0
    return (Decision.NOK if is_nok else Decision.OK), reason


def _invalid_reason(reply: Reply, generation: Generation) -> str:
    problems = "; ".join(reply.problems) or "the mask is missing"
    early = "" if generation.ending is Ending.END_TOKEN else f" (stopped: {generation.ending.value})"
    return f"invalid reply: {problems}{early}"


def _disagreement(says_defect: bool, num_cells: int) -> str:
    if says_defect:
        return "answer and mask disagree: a defect, but no cell is marked"
    return f"answer and mask disagree: no defect, but {_cells(num_cells)} marked"


def _cells(count: int) -> str:
    return f"{count or 'no'} cell{'s' * (count != 1)}"
