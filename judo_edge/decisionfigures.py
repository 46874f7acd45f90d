"""What each sign of a defect is worth alone, and what all of them are together, at a stated budget of false rejects.

    python -m judo_edge.decisionfigures --out build/figures-decision --data FOLDER_WITH_SETS [--bundle BUNDLE]
    python -m judo_edge.decisionfigures --conformal [--kind board]

Every threshold is taken from the good train items of a set, every figure from its accept items; a train item that is
the reference of others is compared with those. A table follows, and one last line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.adapt.drawing.pairs import draw_pairs
from judo_edge.adapt.drawing.parts import BASE_KINDS
from judo_edge.adapt.heldout import heldout_pairs, items_from_pairs
from judo_edge.bundle import Bundle
from judo_edge.calibration.conformal import percent_text
from judo_edge.calibration.fit import Fit, Observation, common_signs, fit_from_observations
from judo_edge.cli.app import opened_bundle
from judo_edge.conformalfigures import NUM_FRESH, NUM_PHOTOS, conformal_figures, drawn_observations
from judo_edge.core import Floats
from judo_edge.errors import InputError, JudoEdgeError, OutputError
from judo_edge.evaluate import ItemReferences
from judo_edge.figures import NUM_REFERENCES, real_sets
from judo_edge.files import sha256_of_bytes
from judo_edge.items import Item, items_from_csv
from judo_edge.metrics import Estimate, auroc, estimate, share
from judo_edge.runtime.calibrating import evidence_from_verdict
from judo_edge.runtime.cells import cell_scores_from_mask
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.margins import MASK_MARGIN
from judo_edge.runtime.run import inspected
from judo_edge.runtime.sources.folder import FolderSource
from judo_edge.terminal import bar

BUDGET, CONFIDENCE = 0.05, 0.9
"""The real sets have tens of good train items: a budget of 1 % is more than these can promise anything about."""
MIN_GOOD = 8
NUM_TRAIN, NUM_ACCEPT, TRAIN_SEED = 256, 512, 92_000_000
SOURCES: Mapping[str, tuple[str, ...]] = {
    "JUDO alone": (MASK_MARGIN,),
    "probe alone": ("cell_probe",),
    "feature distance alone": ("feature_distance",),
    "all": (),
}
"""The signs of each row; none means all that there are."""


@dataclass(frozen=True)
class Seen:
    """One item with its signs and the scores of its cells by source."""

    item: Item
    evidence: Mapping[str, float]
    cells: Mapping[str, Floats]
    """(rows, cols) by source."""

    def observation(self) -> Observation:
        """Return what a decision is fitted on; a hash of the line and the name stands for that of the pixels."""
        name = sha256_of_bytes(f"{self.item.line} {self.item.image.name}".encode())
        return Observation(name, self.item.is_defect, self.evidence)


def main() -> int:
    """Print a table and, as the last line, JSON."""
    parser = argparse.ArgumentParser(prog="python -m judo_edge.decisionfigures", description=__doc__)
    parser.add_argument("--out", type=Path, help="new folder for drawn photos")
    parser.add_argument("--data", type=Path, help="folder of labelled sets, each with its items.csv")
    parser.add_argument("--bundle", default="judo-nano", help="bundle folder, or a shipped model")
    parser.add_argument("--conformal", action="store_true", help="only: does a threshold keep its promise?")
    parser.add_argument("--kind", default="board", choices=BASE_KINDS, help="kind of part that --conformal draws")
    parser.add_argument("--fresh", type=int, default=NUM_FRESH, help="good parts that --conformal counts")
    options = parser.parse_args()
    try:
        rows = list(_conformal_rows(options) if options.conformal else _set_rows(options))
    except JudoEdgeError as error:
        print(f"judo-edge: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(table_lines(rows)))
    print(json.dumps(rows))
    return 0


def _conformal_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the promise and what became of it: for the first mask token alone, and for all signs together."""
    seen = drawn_observations(opened_bundle(options.bundle), options.kind, NUM_PHOTOS + options.fresh)
    for signs in ((MASK_MARGIN,), common_signs(seen)):
        yield {"kind": options.kind, **conformal_figures(seen, NUM_PHOTOS, signs)}


def _set_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if options.out is None or options.data is None:
        raise InputError("no --out or no --data", "both, or --conformal", "name a new folder and the labelled sets")
    if options.out.exists():
        raise OutputError(f"{options.out} exists already", action="choose another --out")
    bundle = opened_bundle(options.bundle)
    for name, items in labelled_sets(options.out, options.data).items():
        yield from rows_from_seen(name, seen_items(bundle, items, name))


def labelled_sets(out: Path, data: Path) -> dict[str, Sequence[Item]]:
    """Return the items of drawn pairs and of every set of a folder, by name."""
    train = items_from_pairs(draw_pairs(TRAIN_SEED, BASE_KINDS, NUM_TRAIN, defect_share=0), out / "train", "train")
    accept = items_from_pairs(heldout_pairs(BASE_KINDS, NUM_ACCEPT), out / "accept")
    real = {name: items_from_csv(path) for name, path in real_sets(data).items()}
    return {"drawn": (*items_from_csv(train), *items_from_csv(accept)), **real}


def seen_items(bundle: Bundle, items: Sequence[Item], name: str) -> list[Seen]:
    """Inspect every item of a set under a bar."""
    source, references = FolderSource(tuple(item.image for item in items), name), _references(items)
    with engine_from_bundle(bundle) as engine, bar() as progress:
        task = progress.add_task(name, total=len(items), state="")
        seen, inspector = [], Inspector(bundle, engine, references)
        for item, (_, inspection) in zip(items, inspected(inspector, source), strict=True):
            cells = _cells(inspection, inspector.grid)
            seen.append(Seen(item, evidence_from_verdict(inspection.verdict), cells))
            progress.advance(task)
    return seen


def _references(items: Sequence[Item]) -> ItemReferences:
    return ItemReferences(items, items, NUM_REFERENCES)


def _cells(inspection: Inspection, grid: tuple[int, int]) -> dict[str, Floats]:
    """Return the cells' scores by source: the marked mask, the dense probe, the feature map."""
    reply = inspection.verdict.reply
    found = {
        "JUDO alone": cell_scores_from_mask(reply.mask) if reply and reply.mask else None,
        "probe alone": inspection.cell_scores,
        "feature distance alone": inspection.features.cells(*grid) if inspection.features else None,
    }
    return {name: cells for name, cells in found.items() if cells is not None}


def rows_from_seen(name: str, seen: Sequence[Seen]) -> Iterator[dict[str, Any]]:
    """Yield a row per source whose signs the set has; a last one is fitted on train defects too, if there are any."""
    train = [one for one in seen if one.item.split == "train"]
    accept = [one for one in seen if one.item.split == "accept"]
    known = common_signs([one.observation() for one in train] or [one.observation() for one in accept])
    good = [one.observation() for one in train if not one.item.is_defect]
    for source, signs in SOURCES.items():
        if set(signs) <= set(known):
            yield _row(name, source, signs or known, _fit(good, signs or known), accept)
    if len(good) < len(train):
        fit = _fit([one.observation() for one in train], known)
        yield _row(name, "all, train defects too", known, fit, accept)


def _fit(train: Sequence[Observation], signs: tuple[str, ...]) -> Fit | None:
    if sum(not one.is_defect for one in train) < MIN_GOOD:
        return None
    return fit_from_observations(train, BUDGET, CONFIDENCE, signs, MIN_GOOD)


def _row(name: str, source: str, signs: tuple[str, ...], fit: Fit | None, accept: Sequence[Seen]) -> dict[str, Any]:
    """Return the figures of one source on the accept items; those that need a threshold are None without one."""
    is_defect = np.array([one.item.is_defect for one in accept])
    scores = np.array([_score(one, signs, fit) for one in accept])
    promise, rejected = fit.guarantee if fit else None, scores > (fit.threshold if fit else math.nan)
    undefined = Estimate(None, None, None)
    figures = {
        "image_auroc": estimate(auroc(scores, is_defect), is_defect) if fit or len(signs) == 1 else undefined,
        "recall": _share(rejected[is_defect]) if fit else undefined,
        "false_rejects": _share(rejected[~is_defect]) if fit else undefined,
        "cell_auroc": _cell_auroc(source, accept),
    }
    return {
        "set": name,
        "source": source,
        "signs": list(signs),
        "items": len(accept),
        "threshold_photos": promise.num_photos if promise else 0,
        "budget": promise.budget if promise else None,
        "confidence": promise.confidence if promise else None,
        "rate_bound": promise.rate_bound if promise else None,
        **{key: asdict(figure) for key, figure in figures.items()},
    }


def _score(one: Seen, signs: tuple[str, ...], fit: Fit | None) -> float:
    """Return the score, or the sign itself where no good part gives a rule; an undecided item is wrong either way."""
    if not set(signs) <= set(one.evidence):
        return -math.inf if one.item.is_defect else math.inf
    return fit.rule.score(one.evidence) if fit else one.evidence[signs[0]]


def _share(hits: np.ndarray[Any, np.dtype[np.bool_]]) -> Estimate:
    return estimate(share(hits), np.zeros(hits.size))


def _cell_auroc(source: str, accept: Sequence[Seen]) -> Estimate:
    """Pool the cells of the items whose truth is known and whose source has cells."""
    known = [(cells, one.item.truth(*cells.shape)) for one in accept if (cells := one.cells.get(source)) is not None]
    pairs = [(cells, mask.to_array()) for cells, mask in known if mask is not None]
    if not any(truth.any() for _, truth in pairs):
        return Estimate(None, None, None)
    scores, truth = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    owner = np.repeat(np.arange(len(pairs)), [cells.size for cells, _ in pairs])
    return estimate(auroc(scores, truth, owner), np.array([mask.any() for _, mask in pairs]))


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table; a figure with its interval, a share in percent, `-` where there is none."""
    keys = [key for key in rows[0] if key != "signs"]
    lines = [f"| {' | '.join(key.replace('_', ' ') for key in keys)} |", "|" + "---|" * len(keys)]
    return lines + [f"| {' | '.join(_cell(key, row[key]) for key in keys)} |" for row in rows]


def _cell(key: str, value: object) -> str:
    if isinstance(value, Mapping):
        low, high = value["low"], value["high"]
        return "-" if value["value"] is None else f"{value['value']:.3f} ({low:.3f}-{high:.3f})"
    if value is None:
        return "-"
    return percent_text(value) if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
