"""From compared items to the figures that the gates ask for, with intervals where resampling items makes sense.

Knows what each figure counts; knows no limit. An undecided reply is never agreement with a decided one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from judo_edge.calibration.gates import Figure
from judo_edge.core import Bools, CellMask, Decision
from judo_edge.evaluate import Outcome
from judo_edge.metrics import Statistic, estimate, pooled_f1, share
from judo_edge.parity.compare import Compared
from judo_edge.runtime.margins import ANSWER_MARGIN, MASK_MARGIN

CLEAR_MARGIN = 1.0
"""Margin of the reference, in logits, at both places of decision, from which on a flip is no near-tie."""

Values = npt.NDArray[np.float64]


def figures_from_compared(items: Sequence[Compared]) -> dict[str, Figure]:
    """Return every figure by the name of its gate, and a few more that explain them."""
    return {
        **_vision_figures(items),
        **_logit_figures(items),
        **_margin_figures(items, MASK_MARGIN, "mask_margin_drift"),
        **_margin_figures(items, ANSWER_MARGIN, "answer_margin_drift"),
        **_reply_figures(items),
        **_mask_figures(items),
        **_flip_figures(items),
        **_label_figures(items),
    }


def text_of(outcome: Outcome) -> str | None:
    """Return the reply as written; None when nothing was generated."""
    return outcome.verdict.reply.text if outcome.verdict.reply else None


def _vision_figures(items: Sequence[Compared]) -> dict[str, Figure]:
    return {
        "vision_cosine_min": _over(np.min, [item.rows.cosine_min for item in items]),
        "vision_cosine_mean": _over(np.mean, [item.rows.cosine_mean for item in items]),
        "vision_error_max": _over(np.max, [item.rows.error_max for item in items]),
    }


def _logit_figures(items: Sequence[Compared]) -> dict[str, Figure]:
    differences = np.concatenate([item.logits.differences for item in items])
    agrees = np.concatenate([item.logits.agrees for item in items])
    near_tie = np.concatenate([item.logits.is_near_tie for item in items])
    return {
        "logit_difference_mean": _over(np.mean, differences),
        "logit_difference_max": _over(np.max, [item.logits.largest for item in items]),
        "top1_agreement": _over(np.mean, agrees[~near_tie]),
        "top1_agreement_everywhere": _over(np.mean, agrees),
        "near_ties": _over(np.mean, near_tie),
    }


def _margin_figures(items: Sequence[Compared], margin: str, name: str) -> dict[str, Figure]:
    drifts = [item.margins[margin] for item in items if margin in item.margins]
    return {f"{name}_median": _over(np.median, drifts), f"{name}_max": _over(np.max, drifts)}


def _reply_figures(items: Sequence[Compared]) -> dict[str, Figure]:
    strata = [item.item.is_defect for item in items]
    same = [text_of(item.bundle) == text_of(item.reference) for item in items]
    invalid = [float(_is_invalid(item.bundle)) for item in items]
    rise = [_is_invalid(item.bundle) - float(_is_invalid(item.reference)) for item in items]
    return {
        "reply_agreement": _estimated(share(same), strata),
        "invalid": _estimated(share(invalid), strata),
        "invalid_rise": _estimated(share(rise), strata),
    }


def _mask_figures(items: Sequence[Compared]) -> dict[str, Figure]:
    """Compare masks; where the reference wrote none there is nothing to agree with."""
    pairs = [(item, item.reference.marked) for item in items]
    known = [(item, mask) for item, mask in pairs if mask is not None]
    same = [item.bundle.marked == mask for item, mask in known]
    strata = [item.item.is_defect for item, _ in known]
    figures = {"mask_agreement": _estimated(share(same), strata)}
    if not any(len(mask) or item.bundle.marked for item, mask in known):
        return {**figures, "cell_f1": Figure(None, 0), "tolerant_cell_f1": Figure(None, 0)}
    ours = np.stack([_marked(item.bundle, mask) for item, mask in known])
    theirs = np.stack([mask.to_array() for _, mask in known])
    count = int((ours.any(axis=(1, 2)) | theirs.any(axis=(1, 2))).sum())
    flat = (len(known), -1)
    return {
        **figures,
        "cell_f1": _estimated(pooled_f1(ours.reshape(flat), theirs.reshape(flat)), strata, count),
        "tolerant_cell_f1": _estimated(tolerant_f1(ours, theirs), strata, count),
    }


def tolerant_f1(marked: Bools, truth: Bools) -> Statistic:
    """Return the pooled F1 of (N, rows, cols) masks where a cell counts as hit by one at most one step away.

    Precision counts marked cells that touch the truth, recall true cells that are touched; F1 is their harmonic mean.
    """
    precise = (marked & _grown(truth)).sum(axis=(1, 2)).astype(np.float64)
    found = (truth & _grown(marked)).sum(axis=(1, 2)).astype(np.float64)
    said, real = marked.sum(axis=(1, 2)).astype(np.float64), truth.sum(axis=(1, 2)).astype(np.float64)

    def statistic(weights: Values) -> float:
        total_said, total_real = float(weights @ said), float(weights @ real)
        if total_said + total_real == 0:
            return float("nan")
        precision = float(weights @ precise) / total_said if total_said else 0.0
        recall = float(weights @ found) / total_real if total_real else 0.0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    return statistic


def _flip_figures(items: Sequence[Compared]) -> dict[str, Figure]:
    good = [item for item in items if item.reference.verdict.decision is Decision.OK]
    bad = [item for item in items if item.reference.verdict.decision is Decision.NOK]
    clear = [item for item in items if _is_clear(item)]
    return {
        "flips_good_to_nok": _share_of(good, lambda item: item.bundle.verdict.decision is not Decision.OK),
        "flips_defect_to_ok": _share_of(bad, lambda item: item.bundle.verdict.decision is Decision.OK),
        "clear_flips": _share_of(clear, _is_flipped),
    }


def _label_figures(items: Sequence[Compared]) -> dict[str, Figure]:
    drops = {True: "recall_drop", False: "specificity_drop"}
    figures = {}
    for is_defect, name in drops.items():
        inside = [item for item in items if item.item.is_defect is is_defect]
        lost = [float(item.reference.is_right) - float(item.bundle.is_right) for item in inside]
        figures[name] = _estimated(share(lost), np.zeros(len(lost)))
    return figures


def _is_clear(item: Compared) -> bool:
    margins = item.reference_margins
    places = [margins.get(name, 0.0) for name in (MASK_MARGIN, ANSWER_MARGIN)]
    return min(abs(margin) for margin in places) >= CLEAR_MARGIN


def _is_flipped(item: Compared) -> bool:
    return item.bundle.verdict.decision is not item.reference.verdict.decision


def _is_invalid(outcome: Outcome) -> bool:
    """Tell whether the strict format was broken; a token held by the grammar is a break that was mended."""
    reply = outcome.verdict.reply
    return reply is None or not reply.is_valid or outcome.verdict.num_held > 0


def _marked(outcome: Outcome, reference: CellMask) -> Bools:
    """Return the marked cells; where no mask was read, every cell is wrong."""
    return ~reference.to_array() if outcome.marked is None else outcome.marked.to_array()


def _grown(masks: Bools) -> Bools:
    """Let every cell of (N, rows, cols) masks reach one step in all eight directions."""
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    rows, cols = masks.shape[1:]
    steps = [(down, right) for down in range(3) for right in range(3)]
    grown: Bools = np.any([padded[:, d : d + rows, r : r + cols] for d, r in steps], axis=0)
    return grown


def _over(reduce: Callable[..., np.floating], values: Sequence[float] | npt.NDArray[np.generic]) -> Figure:
    numbers = np.asarray(values, dtype=np.float64)
    return Figure(float(reduce(numbers)), numbers.size) if numbers.size else Figure(None, 0)


def _share_of(items: Sequence[Compared], holds: Callable[[Compared], bool]) -> Figure:
    return _estimated(share([holds(item) for item in items]), [item.item.is_defect for item in items])


def _estimated(statistic: Statistic, strata: npt.ArrayLike, count: int | None = None) -> Figure:
    groups = np.asarray(strata)
    found = estimate(statistic, groups)
    return Figure(found.value, groups.size if count is None else count, found.low, found.high)
