"""From photos of a part to its calibrated decision: inspects them, and keeps what the decision depends on.

Photos are looked at twice: once for what they are, so that a wrong list is refused in seconds, once by the inspector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from judo_edge import __version__
from judo_edge.calibration.decision import Circumstances, PartDecision
from judo_edge.calibration.fit import MIN_GOOD, Fit, Observation
from judo_edge.core import Verdict
from judo_edge.errors import ImageError, InputError
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.run import inspected
from judo_edge.runtime.sources.folder import FolderSource
from judo_edge.vision.photos import image_from_file, sha256_from_image


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo file with its label."""

    path: Path
    is_defect: bool
    sha256: str
    """Of its decoded pixels and their shape."""


def labelled_photos(
    good: Sequence[Path],
    defects: Sequence[Path],
    enrolled: Mapping[str, str],
    reviewed: Sequence[tuple[Path, bool]] = (),
) -> tuple[LabelledPhoto, ...]:
    """Decode every photo for its hash; `enrolled` are the references in use, from hash to id.

    `reviewed` are photos that nobody chose, with whether each shows a defect: one that cannot be decoded, is a
    reference or is there already is passed over. Of the others each must be right: raises InputError when there are too
    few good ones, when two are the same pixels, or when one is a reference (it would be compared with itself), and
    ImageError when one cannot be decoded.
    """
    _check_enough(len(good) + sum(not is_defect for _, is_defect in reviewed))
    known: dict[str, LabelledPhoto] = {}
    for path, is_defect in [(path, False) for path in good] + [(path, True) for path in defects]:
        photo = LabelledPhoto(path, is_defect, _sha256(path))
        if photo.sha256 in enrolled:
            found = f"{path} is the enrolled reference {enrolled[photo.sha256]}"
            raise InputError(found, "photos that are no references", "leave it out: it would be compared with itself")
        if photo.sha256 in known:
            found = f"{path}: the same pixels as {known[photo.sha256].path}"
            raise InputError(found, "each photo once", "leave one out")
        known[photo.sha256] = photo
    for path, is_defect in reviewed:
        with suppress(ImageError):
            photo = LabelledPhoto(path, is_defect, _sha256(path))
            if photo.sha256 not in enrolled:
                known.setdefault(photo.sha256, photo)
    _check_enough(sum(not photo.is_defect for photo in known.values()))
    return tuple(known.values())


def _check_enough(num_good: int) -> None:
    if num_good < MIN_GOOD:
        raise InputError(f"{num_good} good photos", f"at least {MIN_GOOD}", "photograph more good parts")


def observations(inspector: Inspector, part: str, photos: Sequence[LabelledPhoto]) -> Iterator[Observation]:
    """Inspect the photos in order and yield the signs of each; a photo that ends in a fault has those before it."""
    source = FolderSource(tuple(photo.path for photo in photos), part)
    for photo, (_, inspection) in zip(photos, inspected(inspector, source), strict=True):
        yield Observation(photo.sha256, photo.is_defect, evidence_from_verdict(inspection.verdict))


def evidence_from_verdict(verdict: Verdict) -> Mapping[str, float]:
    """Return the signs of a verdict: its evidence, or JUDO's margins where nothing else was collected."""
    return verdict.evidence or verdict.margins


def decision_from_fit(part: str, fit: Fit, circumstances: Circumstances, engine: Engine) -> PartDecision:
    """Put a fit and where it comes from into a decision that can be stored."""
    return PartDecision(
        part=part,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tool=__version__,
        circumstances=circumstances,
        engine_digest=engine.digest,
        rule=fit.rule,
        threshold=fit.threshold,
        guarantee=fit.guarantee,
        photos=fit.photos,
        left_out=fit.left_out,
    )


def _sha256(path: Path) -> str:
    try:
        return sha256_from_image(image_from_file(path))
    except ImageError as error:
        raise ImageError(f"{path}: {error.found}", error.wanted, "leave it out or replace it") from error
