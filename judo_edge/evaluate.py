"""How right a bundle is on a labelled set: runs the inspector over its items and counts.

Knows what counts as wrong. The file format is in `items`, the statistics are in `metrics`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.core import Bools, CellMask, Decision, Floats, Frame, Verdict
from judo_edge.errors import ItemsError, OutputError
from judo_edge.files import write_atomic
from judo_edge.items import Item, chosen_items, items_from_csv, reference_candidates
from judo_edge.metrics import Estimate, auroc, estimate, pooled_f1, share
from judo_edge.protocol.questions import Question
from judo_edge.runtime.cells import cell_scores_from_mask
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.references import NearestReference, ReferencePhoto, References, photo_from_file
from judo_edge.runtime.run import inspected
from judo_edge.runtime.sources.folder import FolderSource

PROBE, MASK = "dense cell probe", "marked cells (1 or 0)"


@dataclass(frozen=True)
class Outcome:
    """One item with what the inspector made of it."""

    is_defect: bool
    verdict: Verdict
    truth: CellMask | None
    """None for a defect without a mask: it takes no part in cell figures."""
    cell_scores: Floats | None
    """(rows, cols) of the dense probe, None without one."""

    @property
    def is_invalid(self) -> bool:
        """Tell whether nothing could be decided."""
        return self.verdict.decision is Decision.NOT_DECIDABLE

    @property
    def is_right(self) -> bool:
        """Tell whether the decision is the label; an undecided item is wrong."""
        return self.verdict.decision is (Decision.NOK if self.is_defect else Decision.OK)

    @property
    def score(self) -> float:
        """Return the score; an undecided item ranks on the wrong side of every other."""
        if self.is_invalid or self.verdict.score is None:
            return -math.inf if self.is_defect else math.inf
        return self.verdict.score

    @property
    def marked(self) -> CellMask | None:
        """Return the cells that the reply marked."""
        return self.verdict.reply.mask if self.verdict.reply else None


@dataclass(frozen=True)
class Evaluation:
    """The figures of a labelled set."""

    figures: dict[str, Estimate]
    counts: dict[str, int]
    cell_score: str
    """Where the cells' scores come from."""

    def to_dict(self) -> dict[str, object]:
        """Return the content of the JSON file; undefined figures are null."""
        figures = {name: asdict(figure) for name, figure in self.figures.items()}
        return {**figures, "counts": self.counts, "cell_score": self.cell_score}


class ItemReferences:
    """Picks for each item its reference by the rule of the set."""

    def __init__(self, items: Sequence[Item], everything: Sequence[Item], count: int) -> None:
        """Resolve every item's candidates now, so that a set without references fails before the first photo."""
        self._candidates = {str(item.image): reference_candidates(item, everything, count) for item in items}
        self._photo = lru_cache(maxsize=256)(photo_from_file)
        self._nearest = lru_cache(maxsize=64)(self._nearest_of)

    def candidates(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
        """Return the references of a frame made from an item."""
        return self._nearest(self._candidates[frame.path]).photos

    def pick(self, frame: Frame) -> ReferencePhoto:
        """Return the reference of a frame made from an item."""
        return self._nearest(self._candidates[frame.path]).pick(frame)

    def _nearest_of(self, paths: tuple[Path, ...]) -> NearestReference:
        return NearestReference([self._photo(path) for path in paths])


class JoinedReferences:
    """The references of several sets: each frame's are those of the set that its item comes from."""

    def __init__(self, sets: Sequence[LabelledSet]) -> None:
        """Remember which set every photo belongs to; ItemsError when one is in two sets."""
        self._of: dict[str, References] = {}
        for labelled in sets:
            for item in labelled.items:
                if str(item.image) in self._of:
                    raise ItemsError(f"{item.image} is in two sets", "each image once", "drop it from one")
                self._of[str(item.image)] = labelled.references

    def candidates(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
        """Return the references of a frame made from an item."""
        return self._of[frame.path].candidates(frame)

    def pick(self, frame: Frame) -> ReferencePhoto:
        """Return the reference of a frame made from an item."""
        return self._of[frame.path].pick(frame)


@dataclass(frozen=True)
class LabelledSet:
    """The items to evaluate, with their references."""

    items: tuple[Item, ...]
    references: References
    split: str

    @classmethod
    def open(cls, path: Path, split: str, limit: int | None = None, num_references: int = 1) -> LabelledSet:
        """Read items.csv and resolve references; ItemsError names the line."""
        everything = items_from_csv(path)
        items = chosen_items(everything, split, limit)
        return cls(items, ItemReferences(items, everything, num_references), split)

    @classmethod
    def joined(cls, sets: Sequence[LabelledSet]) -> LabelledSet:
        """Put sets one after the other; each item keeps the references of its own set."""
        return cls(tuple(item for one in sets for item in one.items), JoinedReferences(sets), sets[0].split)


def outcomes(
    bundle: Bundle,
    engine: Engine,
    labelled: LabelledSet,
    question: Question | None = None,
    accept_failed: Collection[str] = (),
) -> Iterator[Outcome]:
    """Inspect every item in order and yield its outcome; the engine must be entered.

    Raises BundleError when the bundle failed a gate of its verification that `accept_failed` does not name.
    """
    inspector = Inspector(bundle, engine, labelled.references, question, accept_failed=accept_failed)
    truths = [item.truth(*inspector.grid) for item in labelled.items]
    source = FolderSource(tuple(item.image for item in labelled.items), "evaluation")
    for item, truth, (_, inspection) in zip(labelled.items, truths, inspected(inspector, source), strict=True):
        yield _outcome(item, truth, inspection)


def evaluation_from_outcomes(results: Sequence[Outcome]) -> Evaluation:
    """Count: each figure with its bootstrap interval, stratified by label."""
    is_defect = np.array([result.is_defect for result in results])
    is_right = np.array([result.is_right for result in results])
    is_invalid = np.array([result.is_invalid for result in results])
    scores = np.array([result.score for result in results])
    figures = {
        "image_auroc": estimate(auroc(scores, is_defect), is_defect),
        **_cell_figures(results),
        "recall": _share(is_right, is_defect),
        "specificity": _share(is_right, ~is_defect),
        "invalid": estimate(share(is_invalid), is_defect),
        "verdict_accuracy": estimate(share(is_right), is_defect),
    }
    return Evaluation(figures, _counts(results), PROBE if _has_probe(results) else MASK)


def check_target(path: Path, force: bool = False) -> None:
    """Raise OutputError when the JSON file exists and `force` is not given: better before the run than after it."""
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", action="pass --force to replace it, or choose another name")


def write_evaluation(path: Path, content: dict[str, object], force: bool = False) -> None:
    """Write the JSON file beside and rename; OutputError when it exists and `force` is not given."""
    write_atomic(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode(), force)


def _outcome(item: Item, truth: CellMask | None, inspection: Inspection) -> Outcome:
    return Outcome(item.is_defect, inspection.verdict, truth, inspection.cell_scores)


def _share(hits: Bools, among: Bools) -> Estimate:
    chosen = hits[among]
    return estimate(share(chosen), np.zeros(chosen.size))


def _cell_figures(results: Sequence[Outcome]) -> dict[str, Estimate]:
    """Pool the cells of all items whose truth is known; undefined when no defective cell is among them."""
    known = [(result, result.truth) for result in results if result.truth is not None]
    if not any(len(mask) for _, mask in known):
        undefined = Estimate(None, None, None)
        return {"cell_auroc": undefined, "cell_f1": undefined}
    truth = np.stack([mask.to_array().ravel() for _, mask in known])
    marked = np.stack([_marked(result, mask).ravel() for result, mask in known])
    scores = np.stack([_cell_scores(result, mask, _has_probe(results)).ravel() for result, mask in known])
    strata = np.array([result.is_defect for result, _ in known])
    owner = np.repeat(np.arange(len(known)), truth.shape[1])
    return {
        "cell_auroc": estimate(auroc(scores.ravel(), truth.ravel(), owner), strata),
        "cell_f1": estimate(pooled_f1(marked, truth), strata),
    }


def _marked(result: Outcome, truth: CellMask) -> Bools:
    """Return the marked cells; where no mask was read, every cell counts as wrong."""
    return ~truth.to_array() if result.marked is None else result.marked.to_array()


def _cell_scores(result: Outcome, truth: CellMask, by_probe: bool) -> Floats:
    """Return the scores of cells; where none can be had, every cell ranks on the wrong side."""
    if not by_probe and result.marked is not None:
        return cell_scores_from_mask(result.marked)
    if by_probe and result.cell_scores is not None:
        return result.cell_scores
    return np.where(truth.to_array(), -np.inf, np.inf).astype(np.float32)


def _has_probe(results: Sequence[Outcome]) -> bool:
    return any(result.cell_scores is not None for result in results)


def _counts(results: Sequence[Outcome]) -> dict[str, int]:
    good = [result for result in results if not result.is_defect]
    defect = [result for result in results if result.is_defect]
    return {
        "items": len(results),
        "good": len(good),
        "defect": len(defect),
        "with_cell_truth": sum(result.truth is not None for result in results),
        "true_positive": sum(result.is_right for result in defect),
        "false_negative": sum(not result.is_right and not result.is_invalid for result in defect),
        "true_negative": sum(result.is_right for result in good),
        "false_positive": sum(not result.is_right and not result.is_invalid for result in good),
        "invalid": sum(result.is_invalid for result in results),
        "held_by_grammar": sum(result.verdict.num_held > 0 for result in results),
    }
