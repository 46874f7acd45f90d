"""Signs of drawn numbers instead of photos, and decisions made from them."""

from __future__ import annotations

import numpy as np

from judo_edge.calibration.decision import Circumstances, PartDecision
from judo_edge.calibration.fit import Fit, Observation, fit_from_observations
from judo_edge.files import sha256_of_bytes

HERE = Circumstances(bundle_digest="a" * 64, engine="scripted", reference_ids=("r1", "r2"))


def observed(count: int, shift: float = 0.0, seed: int = 0, names: tuple[str, ...] = ("a", "b")) -> list[Observation]:
    """Parts whose signs are normal numbers around `shift`; a shift means that they are defects."""
    values = np.random.default_rng(seed).normal(shift, 1, (count, len(names)))
    label = "defect" if shift else "good"
    return [
        Observation(
            sha256_of_bytes(f"{label} {seed} {number}".encode()), bool(shift), dict(zip(names, row, strict=True))
        )
        for number, row in enumerate(values.tolist())
    ]


def decision_of(fit: Fit, part: str = "lid", circumstances: Circumstances = HERE) -> PartDecision:
    """Put a fit into a decision that can be stored."""
    return PartDecision(
        part=part, created="2026-01-01T00:00:00+00:00", tool="0", circumstances=circumstances, engine_digest="0" * 64,
        rule=fit.rule, threshold=fit.threshold, guarantee=fit.guarantee, photos=fit.photos, left_out=fit.left_out,
    )  # fmt: skip


def made_decision(seed: int = 0, part: str = "lid") -> PartDecision:
    """Make a decision from 60 good parts."""
    return decision_of(fit_from_observations(observed(60, seed=seed), 0.05, 0.9), part)
