"""What a verification leaves: the content of the acceptance report, and rows for a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from judo_edge import __version__
from judo_edge.bundle import Bundle
from judo_edge.bundle.acceptance import Outcome as Accepted
from judo_edge.calibration.gates import Figure, GateResult, failed_gates
from judo_edge.evaluate import Outcome, evaluation_from_outcomes
from judo_edge.files import sha256_of_file
from judo_edge.parity.compare import REFERENCE_ENGINE, Compared
from judo_edge.parity.drift import NEAR_TIE, NUM_CANDIDATES
from judo_edge.parity.figures import CLEAR_MARGIN, text_of

MAX_CHANGED = 100
"""Items with another reply that are listed one by one."""


@dataclass(frozen=True)
class Setting:
    """What was compared, and on what."""

    bundle: Bundle
    reference: Bundle
    items_files: tuple[Path, ...]
    split: str
    num_references: int
    engine: str


def accepted_from_results(setting: Setting, items: Sequence[Compared], results: Sequence[GateResult]) -> Accepted:
    """Return what the manifest says of the verification."""
    names = " + ".join(_set_name(path) for path in setting.items_files)
    measured = f"{names}, split {setting.split}, {len(items)} items"
    return Accepted(failed_gates(tuple(results)), setting.reference.manifest.name, measured, setting.engine)


def report_content(
    setting: Setting, items: Sequence[Compared], figures: Mapping[str, Figure], results: Sequence[GateResult]
) -> dict[str, object]:
    """Return the JSON content of the report; a figure that is undefined or not finite is null."""
    changed = [item for item in items if text_of(item.bundle) != text_of(item.reference)]
    failed = failed_gates(tuple(results))
    return {
        "format_version": 1,
        "status": "failed" if failed else "passed",
        "failed": list(failed),
        "gates": [asdict(result) | {"low": _finite(result.low), "high": _finite(result.high)} for result in results],
        "figures": {name: _figure(figure) for name, figure in figures.items()},
        "reference": evaluation_from_outcomes([item.reference for item in items]).to_dict(),
        "bundle": evaluation_from_outcomes([item.bundle for item in items]).to_dict(),
        "about": _about(setting, items),
        "num_changed": len(changed),
        "changed": [_change(item, setting.items_files) for item in changed[:MAX_CHANGED]],
    }


def gate_rows(results: Sequence[GateResult]) -> list[tuple[str, str, str, str, str]]:
    """Return (gate, limit, measured, from how many, passed) for a table."""
    return [
        (
            result.name,
            result.limit,
            "-" if result.measured is None else f"{result.measured:.4g}",
            str(result.count),
            "passed" if result.passed else f"FAILED{': ' * bool(result.note)}{result.note}",
        )
        for result in results
    ]


def _about(setting: Setting, items: Sequence[Compared]) -> dict[str, object]:
    source = setting.reference.manifest.source
    return {
        "judo_edge": __version__,
        "bundle": setting.bundle.manifest.name,
        "content_digest": setting.bundle.content_digest,
        "subject_digest": setting.bundle.subject_digest,
        "engine": setting.engine,
        "against": setting.reference.manifest.name,
        "against_content_digest": setting.reference.content_digest,
        "against_source": source.model_dump(mode="json"),
        "against_engine": REFERENCE_ENGINE,
        "items_files": {_set_name(path): sha256_of_file(path) for path in setting.items_files},
        "split": setting.split,
        "items": len(items),
        "defects": sum(item.item.is_defect for item in items),
        "candidate_references": setting.num_references,
        "near_tie_logits": NEAR_TIE,
        "clear_margin_logits": CLEAR_MARGIN,
        "compared_logits": NUM_CANDIDATES,
    }


def _set_name(path: Path) -> str:
    """Return the file with its folder's name: sets are called after their folder, and no other is named."""
    return f"{path.resolve().parent.name}/{path.name}"


def _photo_name(image: Path, sets: Sequence[Path]) -> str:
    """Return a photo's path from its set's folder on."""
    for folder in (path.parent for path in sets):
        if image.is_relative_to(folder):
            return f"{folder.resolve().name}/{image.relative_to(folder).as_posix()}"
    return image.name


def _change(item: Compared, sets: Sequence[Path]) -> dict[str, object]:
    def said(outcome: Outcome) -> dict[str, object]:
        margins = dict(outcome.verdict.margins)
        return {"decision": outcome.verdict.decision.value, "reply": text_of(outcome), "margins": margins}

    label = "defect" if item.item.is_defect else "good"
    name = _photo_name(item.item.image, sets)
    return {"image": name, "label": label, "reference": said(item.reference), "bundle": said(item.bundle)}


def _figure(figure: Figure) -> dict[str, float | int | None]:
    low, high = _finite(figure.low), _finite(figure.high)
    return {"value": _finite(figure.value), "low": low, "high": high, "count": figure.count}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
