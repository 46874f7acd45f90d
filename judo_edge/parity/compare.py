"""Two bundles over the same items: first the reference, then the bundle along the reference's replies.

Only one engine is open at a time, and what the reference said waits in a temporary folder, so that a comparison needs
the memory of one model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.core import CellMask, Floats
from judo_edge.errors import EngineError
from judo_edge.evaluate import LabelledSet, Outcome
from judo_edge.files import output_errors
from judo_edge.items import Item
from judo_edge.parity.drift import (
    Best,
    LogitDrift,
    RowDrift,
    best_from_logits,
    logit_drift,
    margin_drift,
    row_drift,
)
from judo_edge.parity.subject import Subject
from judo_edge.runtime.engines import engine_from_bundle

REFERENCE_ENGINE = "onnxruntime"
"""It runs every dialect and type on any machine."""

Progress = Callable[[str, int], None]
"""Is told `reference` or `bundle` and how many items are done."""


@dataclass(frozen=True)
class Compared:
    """One item as both saw it."""

    item: Item
    reference: Outcome
    bundle: Outcome
    rows: RowDrift
    logits: LogitDrift
    margins: Mapping[str, float]
    """Absolute change of each margin along the reference's reply, logits."""
    reference_margins: Mapping[str, float]
    """The reference's own margins along its reply, logits."""


@dataclass(frozen=True)
class _Kept:
    """What is kept of the reference for one item; its arrays lie in a file."""

    outcome: Outcome
    ids: tuple[int, ...]
    margins: Mapping[str, float]
    file: Path

    @classmethod
    def written(
        cls, file: Path, outcome: Outcome, ids: tuple[int, ...], margins: Mapping[str, float], rows: Floats, best: Best
    ) -> _Kept:
        """Write the arrays; OutputError when the disk refuses."""
        with output_errors(file):
            np.savez(file, rows=rows, tokens=best.tokens, logits=best.logits)
        return cls(outcome, ids, margins, file)

    def arrays(self) -> tuple[Floats, Best]:
        with np.load(self.file, allow_pickle=False) as content:
            return content["rows"], Best(content["tokens"], content["logits"])


def compared_items(
    reference: Bundle,
    bundle: Bundle,
    labelled: LabelledSet,
    engine: str = REFERENCE_ENGINE,
    threads: int = 0,
    progress: Progress = lambda *_: None,
) -> list[Compared]:
    """Inspect every item with both bundles, the reference by ONNX Runtime and the bundle by `engine`.

    Raises EngineError when the reference cannot inspect an item; a bundle that cannot has changed its verdict.
    """
    with tempfile.TemporaryDirectory(prefix="judo-edge-verify-") as folder:
        with engine_from_bundle(reference, REFERENCE_ENGINE, threads) as running:
            subject = Subject(reference, running, labelled)
            truths = [item.truth(*subject.grid) for item in labelled.items]
            kept = []
            for number, (item, truth) in enumerate(zip(labelled.items, truths, strict=True)):
                kept.append(_kept(subject, item, truth, Path(folder) / f"{number}.npz"))
                progress("reference", number + 1)
        with engine_from_bundle(bundle, engine, threads) as running:
            subject = Subject(bundle, running, labelled)
            return list(_compared(subject, labelled.items, truths, kept, progress))


def _kept(subject: Subject, item: Item, truth: CellMask | None, file: Path) -> _Kept:
    look = subject.look(item, truth)
    if not look.ids:
        found = f"the reference could not inspect {item.image.name}: {look.outcome.verdict.reason}"
        raise EngineError(found, "a reference that inspects every item", "check the reference with judo-edge evaluate")
    trail = subject.follow(look.ids)
    if not np.isfinite(trail.logits).all():
        raise EngineError(f"the reference's logits on {item.image.name} are not finite", "finite logits")
    return _Kept.written(file, look.outcome, look.ids, trail.margins, look.rows, best_from_logits(trail.logits))


def _compared(
    subject: Subject, items: tuple[Item, ...], truths: list[CellMask | None], kept: list[_Kept], progress: Progress
) -> Iterator[Compared]:
    for number, (item, truth, theirs) in enumerate(zip(items, truths, kept, strict=True)):
        rows, best = theirs.arrays()
        look = subject.look(item, truth)
        trail = subject.follow(theirs.ids)
        yield Compared(
            item=item,
            reference=theirs.outcome,
            bundle=look.outcome,
            rows=row_drift(look.rows, rows),
            logits=logit_drift(trail.logits, best),
            margins=margin_drift(trail.margins, theirs.margins),
            reference_margins=theirs.margins,
        )
        progress("bundle", number + 1)
