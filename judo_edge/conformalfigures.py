"""Does the threshold keep its promise? Drawn good parts of one kind: some set it, thousands of fresh ones are counted.

One run is one draw from the Beta law, so the same scores are parted again many times: the share of the partings that
keep the budget is set beside the confidence that was promised for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from judo_edge.adapt.drawing.pairs import draw_pair
from judo_edge.adapt.drawing.parts import Rng
from judo_edge.bundle import Bundle
from judo_edge.calibration.combination import Array, combination_from_signs
from judo_edge.calibration.conformal import Guarantee, chance_of_count, guarantee_from_count
from judo_edge.calibration.fit import Observation, common_signs, parted, threshold_from_signs
from judo_edge.core import Frame
from judo_edge.runtime.calibrating import evidence_from_verdict
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.references import ID_LENGTH, ReferencePhoto
from judo_edge.runtime.run import inspected
from judo_edge.terminal import bar
from judo_edge.vision.photos import sha256_from_image

NUM_PHOTOS, NUM_FRESH, NUM_PARTINGS = 200, 5000, 1000
BUDGET, CONFIDENCE = 0.01, 0.9
SEED = 91_000_000
"""Far from every other seed."""


class DrawnGoodParts:
    """Good parts of one kind, drawn one at a time; each is compared with the reference that it was drawn with."""

    def __init__(self, kind: str, count: int, seed: int = SEED) -> None:
        """Name the kind (a key of DRAWERS) and how many."""
        self.kind, self.count = kind, count
        self._rng: Rng = np.random.default_rng(seed)
        self._reference: ReferencePhoto | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the queries; the reference of the latest is what `pick` returns."""
        for number in range(self.count):
            pair = draw_pair(self._rng, self.kind, defective=False)
            sha256, reference = sha256_from_image(pair.reference), pair.reference
            self._reference = ReferencePhoto(sha256[:ID_LENGTH], sha256, lambda image=reference: image)  # type: ignore[misc]
            yield Frame(str(number), self.kind, pair.query, 0)

    def pick(self, frame: Frame) -> ReferencePhoto:
        """Return the reference of the frame that was drawn last."""
        assert self._reference is not None, "pick is called for a drawn frame"
        return self._reference

    def candidates(self, frame: Frame) -> tuple[ReferencePhoto, ...]:
        """Return the reference of the frame that was drawn last as the only one."""
        return (self.pick(frame),)


def drawn_observations(bundle: Bundle, kind: str, count: int, threads: int = 0) -> list[Observation]:
    """Draw good parts and inspect them under a bar."""
    parts, seen = DrawnGoodParts(kind, count), []
    with engine_from_bundle(bundle, threads=threads) as engine, bar() as progress:
        task = progress.add_task(kind, total=count, state="")
        for frame, inspection in inspected(Inspector(bundle, engine, parts), parts):
            name = f"{int(frame.frame_id):064x}"
            seen.append(Observation(name, False, evidence_from_verdict(inspection.verdict)))
            progress.advance(task)
    return seen


def conformal_figures(seen: list[Observation], num_photos: int, signs: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return promise and realised rate of the first `num_photos`, and of many other choices of as many.

    Parts that lack a sign are left out: they are not decidable, and nothing is promised of them.
    """
    names = signs or common_signs(seen)
    known = [[one.evidence[name] for name in names] for one in seen if set(names) <= set(one.evidence)]
    values, rng = np.array(known, dtype=np.float64), np.random.default_rng(0)
    promise = guarantee_from_count(len(parted(values[:num_photos], len(names))[1]), BUDGET, CONFIDENCE)
    rate = realised_rate(names, values, num_photos, promise.rank)
    rates = np.array(
        [realised_rate(names, rng.permutation(values), num_photos, promise.rank) for _ in range(NUM_PARTINGS)]
    )
    fresh = len(values) - num_photos
    return {
        "signs": list(names),
        "photos": num_photos,
        "threshold_photos": promise.num_photos,
        "fresh": fresh,
        "budget": promise.budget,
        "confidence": promise.confidence,
        "expected_rate": promise.expected_rate,
        "rate_bound": promise.rate_bound,
        "rate": rate,
        "is_within_bound": rate <= promise.rate_bound,
        "partings": len(rates),
        "partings_mean_rate": float(rates.mean()),
        "partings_within_budget": float((rates <= promise.budget).mean()),
        "partings_within_budget_by_law": chance_within_sample(promise, fresh, promise.budget),
        "partings_within_bound": float((rates <= promise.rate_bound).mean()),
        "partings_within_bound_by_law": chance_within_sample(promise, fresh, promise.rate_bound),
    }


def chance_within_sample(promise: Guarantee, num_fresh: int, rate: float) -> float:
    """Return what share of partings should show at most `rate`: a finite number of fresh parts blurs the Beta law."""
    return chance_of_count(promise.num_photos, promise.rank, num_fresh, int(rate * num_fresh + 1e-9))


def realised_rate(names: tuple[str, ...], values: Array, num_photos: int, rank: int) -> float:
    """Return the share of the parts behind the first `num_photos` of (N, K) that the threshold of those rejects."""
    for_rule, for_threshold = parted(values[:num_photos], len(names))
    rule = combination_from_signs(names, for_rule)
    threshold = threshold_from_signs(rule, for_threshold, rank)
    return float((rule.scores(values[num_photos:]) > threshold).mean())
