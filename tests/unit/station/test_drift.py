"""The drift alarm: an exact test, the promised rate of false alarms, drifts found, bases kept over restarts."""

import asyncio
import itertools
import math
import os

import numpy as np
import pytest

from judo_edge.core import Decision
from judo_edge.station.config import DriftTable
from judo_edge.station.drift import Drift, difference
from judo_edge.station.kolmogorov import compare, probability_from_steps, steps_apart
from judo_edge.station.results import Code, Recipe, Result, ResultState

NUM_PAIRS = int(os.environ.get("DRIFT_PAIRS", "2000"))


def recipe(internal_id="a"):
    return Recipe(
        external_id="lid", internal_id=internal_id, part="lid", bundle="b", bundle_digest="", references_digest="",
        reference_ids=(),
    )  # fmt: skip


def result(score, distance=None, internal_id="a", **changed):
    usual = {"decision": Decision.OK, "code": Code.INSPECTED, **changed}
    evidence = {} if distance is None else {"feature_distance": distance}
    return Result(
        number=1, result_id="r", job_id="j", state=ResultState.COMPLETED, reason="", score=score, evidence=evidence,
        internal_recipe_id=internal_id, created="", triggered="", **usual,
    )  # fmt: skip


class Watch:
    """A drift alarm and what it tells."""

    def __init__(self, folder, **table):
        self.told = []
        self.drift = Drift(DriftTable(**table), folder, lambda name, severity, text: self.told.append((name, text)))

    def see(self, results, version="a"):
        async def run():
            for one in results:
                await self.drift.on_result(one, recipe(version))

        asyncio.run(run())
        return self


def test_the_probability_is_exact():
    for size in (1, 2, 4, 6):
        ranks = range(2 * size)
        seen = []
        for chosen in itertools.combinations(ranks, size):
            others = np.array([rank for rank in ranks if rank not in chosen], dtype=float)
            seen.append(steps_apart(np.array(chosen, dtype=float), others))
        for steps in range(size + 1):
            wanted = sum(one >= steps for one in seen) / len(seen)
            assert probability_from_steps(size, steps) == pytest.approx(wanted, abs=1e-12)


def test_the_probability_of_large_samples_is_near_the_asymptotic_one():
    size, steps = 5000, 150
    scaled = steps / size * math.sqrt(size / 2)
    asymptotic = 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * scaled * scaled) for k in range(1, 20))
    assert probability_from_steps(size, steps) == pytest.approx(asymptotic, rel=0.05)


def test_samples_of_unequal_size_are_refused():
    with pytest.raises(ValueError, match="2 and 3"):
        compare(np.zeros(2), np.zeros(3))


def alarms_of(random, window, alarm, shift=0.0):
    """Count the alarms of NUM_PAIRS pairs of windows of two signs, the second shifted in `score` by so many sigma."""
    alarms = 0
    for _ in range(NUM_PAIRS):
        draws = random.normal(size=(2, window, 2))
        draws[1, :, 0] += shift
        base, now = ([{"score": a, "feature_distance": b} for a, b in one] for one in draws.tolist())
        alarms += bool(difference(tuple(base), tuple(now), alarm))
    return alarms


@pytest.mark.parametrize(("window", "alarm"), [(20, 0.01), (20, 0.05), (100, 0.01), (100, 0.05), (200, 0.001)])
def test_false_alarms_are_as_rare_as_promised(window, alarm):
    """Without drift the count lies at most four standard deviations above what is promised."""
    alarms = alarms_of(np.random.default_rng(5), window, alarm)
    print(f"window {window}, alarm {alarm}: {alarms} of {NUM_PAIRS} = {alarms / NUM_PAIRS:.5f}")
    assert alarms <= NUM_PAIRS * alarm + 4 * math.sqrt(NUM_PAIRS * alarm * (1 - alarm))
    assert alarms >= NUM_PAIRS * alarm / 5  # nor is it an alarm that never goes off


@pytest.mark.parametrize(("shift", "least"), [(0.5, 0.7), (1.0, 0.99)])
def test_drifts_are_found(shift, least):
    alarms = alarms_of(np.random.default_rng(6), 200, 0.001, shift)
    print(f"window 200, alarm 0.001, shift {shift} sigma: {alarms} of {NUM_PAIRS} = {alarms / NUM_PAIRS:.4f}")
    assert alarms >= least * NUM_PAIRS


def test_a_long_run_without_drift(tmp_path):
    """One base and 300 windows of skewed scores: as many alarms as promised, although all share the base."""
    random = np.random.default_rng(11)
    watch = Watch(tmp_path, window=50, alarm=0.01)
    watch.see(result(score) for score in random.gamma(2.0, size=50 * 301))
    assert len(watch.told) == 300
    assert sum(bool(text) for _, text in watch.told) <= 10


def test_a_drift_is_told_with_numbers_and_ends(tmp_path):
    random = np.random.default_rng(3)
    watch = Watch(tmp_path, window=100, alarm=0.001)
    watch.see(result(score) for score in random.normal(size=200))
    assert watch.told == [("drift.lid", "")]
    watch.see(result(score) for score in random.normal(1.0, size=100))
    name, text = watch.told[-1]
    assert name == "drift.lid"
    assert "score of the latest 100 good parts: median" in text
    assert "Kolmogorov-Smirnov distance" in text
    watch.see(result(score) for score in random.normal(size=100))
    assert watch.told[-1] == ("drift.lid", "")


def test_photos_that_move_away_from_the_references_are_told_although_scores_stay(tmp_path):
    random = np.random.default_rng(4)
    watch = Watch(tmp_path, window=100, alarm=0.001)
    watch.see(result(random.normal(), random.normal()) for _ in range(100))
    watch.see(result(random.normal(), random.normal(1.5)) for _ in range(100))
    assert watch.told[-1][1].startswith("feature_distance of the latest 100 good parts")
    assert "score of" not in watch.told[-1][1]


def test_only_good_parts_of_the_line_count(tmp_path):
    watch = Watch(tmp_path, window=20)
    watch.see([result(9.0, decision=Decision.NOK)] * 50)
    watch.see([result(9.0, is_simulated=True)] * 50)
    watch.see([result(9.0, decision=Decision.NOT_DECIDABLE, code=Code.DEADLINE)] * 50)
    watch.see([result(None)] * 50)
    watch.see([result(9.0, internal_id="of another version")] * 50)
    watch.see(result(score) for score in range(40))
    assert watch.told[-1][1].startswith("score of the latest 20 good parts: median 29.5, was 9.5 in the first 20")


def test_the_base_survives_a_restart_and_belongs_to_a_version(tmp_path):
    Watch(tmp_path, window=40).see(result(float(score)) for score in range(40))
    later = Watch(tmp_path, window=40).see(result(100.0 + score) for score in range(40))
    assert later.told[-1][1]
    later.see((result(100.0 + score % 40, internal_id="b") for score in range(80)), "b")
    assert [bool(text) for _, text in later.told] == [True, False, False]


def test_a_base_under_way_goes_on_after_a_restart(tmp_path):
    Watch(tmp_path, window=50).see(result(float(score)) for score in range(30))
    later = Watch(tmp_path, window=50).see(result(float(score)) for score in range(20, 50))
    assert later.told == []
    later.see(result(float(score)) for score in range(50))
    assert later.told == [("drift.lid", "")]


def test_a_damaged_base_is_collected_anew_and_a_full_disk_harms_nothing(tmp_path):
    (tmp_path / "a.json").write_text("{")
    watch = Watch(tmp_path, window=20).see(result(float(score % 20)) for score in range(40))
    assert watch.told == [("drift.lid", "")]
    blocked = tmp_path / "file"
    blocked.write_text("")
    watch = Watch(blocked, window=20).see(result(float(score % 20)) for score in range(40))
    assert watch.told == [("drift.lid", "")]
