"""The calibrated decision of one part: what was fitted, on which photos, for which bundle, and what it promises.

Frozen models of the file; nothing here touches the disk, and nothing is fitted here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from judo_edge.calibration.combination import Combination
from judo_edge.calibration.conformal import Guarantee
from judo_edge.calibration.file import Sha256
from judo_edge.config import Frozen, model_from_data
from judo_edge.core import Decision
from judo_edge.errors import ConfigError
from judo_edge.files import sha256_of_bytes

_AGAIN = "run judo-edge calibrate-decision again"


class PhotoUse(Frozen):
    """One photo that the decision was made from."""

    sha256: Sha256
    """Of its decoded pixels and their shape."""
    label: Literal["good", "defect"]
    use: Literal["rule", "threshold", "both"]


class Circumstances(Frozen):
    """What a score depends on besides the frame: a decision holds for no other."""

    bundle_digest: Sha256
    """SHA-256 of the bundle's manifest without what a verification adds (`Bundle.subject_digest`)."""
    engine: str
    """Name of the engine in the registry."""
    reference_ids: tuple[str, ...]
    """The part's references in use, sorted."""

    def difference(self, other: Circumstances) -> str:
        """Say in words how another set of circumstances differs; empty when it does not."""
        if other.bundle_digest != self.bundle_digest:
            return f"it was made with bundle {self.bundle_digest[:12]}, this is {other.bundle_digest[:12]}"
        if other.engine != self.engine:
            return f"it was made with engine {self.engine}, this is {other.engine}"
        added, gone = (
            set(other.reference_ids) - set(self.reference_ids),
            set(self.reference_ids) - set(other.reference_ids),
        )
        if added or gone:
            return f"the references changed: {len(added)} new, {len(gone)} no longer in use"
        return ""


class Decided(NamedTuple):
    """What a calibrated decision makes of one frame."""

    decision: Decision
    score: float | None
    """In nats, larger is worse; None when a sign is missing."""
    threshold: float
    """A part is NOK when its score lies above."""
    reason: str
    """One line of words."""


class PartDecision(Frozen):
    """One version of the decision of a part."""

    format_version: Literal[1] = 1
    digest: str = ""
    """SHA-256 of this file's content without the digest itself."""
    version: Annotated[int, Field(ge=0)] = 0
    """Number in the store; 0 before it is stored."""
    part: Annotated[str, Field(min_length=1)]
    created: str
    """UTC, ISO 8601."""
    tool: str
    """Version of judo-edge."""
    circumstances: Circumstances
    engine_digest: str
    """SHA-256 of what decides the embeddings, as the engine says it; for tracing, not compared."""
    rule: Combination
    threshold: float
    """In nats, like the score."""
    guarantee: Guarantee
    photos: Annotated[tuple[PhotoUse, ...], Field(min_length=1)]
    left_out: dict[str, int]
    """Photos that were given and not used, by reason."""

    @model_validator(mode="after")
    def _check(self) -> PartDecision:
        if sum(photo.use != "rule" for photo in self.photos) != self.guarantee.num_photos:
            raise ValueError("the guarantee counts other photos than those that are listed")
        return self

    def decide(self, evidence: Mapping[str, float]) -> Decided:
        """Compare the signs of a frame with the threshold; a frame that lacks one is NOT_DECIDABLE, never OK."""
        if missing := self.rule.missing(evidence):
            reason = f"the decision of {self.part} needs {', '.join(missing)}, which this frame lacks"
            return Decided(Decision.NOT_DECIDABLE, None, self.threshold, reason)
        score = self.rule.score(evidence)
        is_nok = score > self.threshold
        side = "above" if is_nok else "within"
        reason = f"score {score:.3g} {side} the threshold {self.threshold:.3g}; {self._leading(evidence)}"
        return Decided(Decision.NOK if is_nok else Decision.OK, score, self.threshold, reason)

    def content_digest(self) -> str:
        """Return what `digest` has to be."""
        return sha256_of_bytes(self.model_dump_json(exclude={"digest"}).encode())

    def sealed(self) -> PartDecision:
        """Return the same with its digest filled in."""
        return self.model_copy(update={"digest": self.content_digest()})

    def _leading(self, evidence: Mapping[str, float]) -> str:
        """Name the sign that a good part would show least likely."""
        sign = max(self.rule.signs, key=lambda sign: float(sign.surprise(evidence[sign.name])))
        return f"most telling: {sign.name} {evidence[sign.name]:.3g} (good parts: {sign.centre:.3g})"


def decision_from_bytes(raw: bytes, path: Path) -> PartDecision:
    """Read a decision file; ConfigError names what is unknown, missing or was changed by hand."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}", "a decision", _AGAIN) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is not a decision", "a JSON object", _AGAIN)
    decision = model_from_data(PartDecision, data, str(path))
    if decision.digest != decision.content_digest():
        raise ConfigError(f"{path} was changed after it was written", "an unchanged file", _AGAIN)
    return decision
