"""A whole bench: opens what is measured, runs the rounds, and puts the report together."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from judo_edge import __version__
from judo_edge.bench.cold import Cold, ColdProcesses
from judo_edge.bench.counting import CountingEngine
from judo_edge.bench.energy import EnergyMeter, NoMeter, energy_meter
from judo_edge.bench.figures import row_from_rounds
from judo_edge.bench.lane import Drafts, Lane
from judo_edge.bench.prediction import prompt_tokens_of
from judo_edge.bench.replay import ReplaySource
from judo_edge.bench.report import Mode, Report, Row, Setting, report_from_rows
from judo_edge.bench.rounds import Round, Rounds, Shots, measured_rounds, stream
from judo_edge.bench.soak import SoakReport, soak
from judo_edge.bench.sources import Parts, Shot
from judo_edge.bench.statistics import Summary, summary_from_values
from judo_edge.bench.workloads import Workload, slots
from judo_edge.bundle import Bundle
from judo_edge.machine import resident_memory
from judo_edge.runtime.engines import engine_from_bundle

if TYPE_CHECKING:
    from judo_edge.bench.peers.rivals import PeerPlan, PeerRival

Progress = Callable[[int], None]
"""Told how many rounds are done, warm-up included."""


@dataclass(frozen=True)
class Plan:
    """What a bench is asked for."""

    workload: Workload
    parts: Parts
    source: str
    """Where the photos come from, for a reader."""
    seed: int
    rounds: int
    warm_up: int
    mode: Mode = Mode.LATENCY
    cameras: int = 1
    engine: str = "onnxruntime"
    threads: int = 0
    accept_failed: tuple[str, ...] = ()
    is_replaying: bool = False
    """Whether the drafts are the plain greedy replies themselves; see `replay`."""
    peers: PeerPlan | None = None
    """Rivals that are asked in turn; none when None."""
    pause_ms: float = 0.0
    """Milliseconds that go by before each contestant's turn."""

    def moments(self) -> Iterator[Shots]:
        """Yield the photos; InputError when the workload needs more part numbers."""
        return stream(self.parts, slots(self.workload, len(self.parts.names), self.seed), self.cameras)

    def setting(self, meter: EnergyMeter, repeated_photos: int) -> Setting:
        """Return what the report says of it."""
        return Setting(
            workload=self.workload.value,
            mode=self.mode,
            source=f"{self.source}; drafts: replayed replies" if self.is_replaying else self.source,
            seed=self.seed,
            cameras=self.cameras,
            rounds=self.rounds,
            warm_up=self.warm_up,
            repeated_photos=repeated_photos,
            engine=self.engine,
            threads=self.threads,
            pause_ms=self.pause_ms,
            energy=meter.source,
            version=__version__,
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        )


def run_bench(bundles: Sequence[Bundle], plan: Plan, progress: Progress) -> Report:
    """Measure bundles on a workload, in turn in every round."""
    if plan.workload is Workload.COLD_START:
        return _cold_report(bundles, plan, progress)
    with (
        _rivals(plan, bundles[0]) as rivals,
        energy_meter() as meter,
        _lanes(bundles, plan, meter) as lanes,
    ):
        pause = plan.pause_ms / 1e3
        rounds = measured_rounds(lanes, plan.moments(), plan.rounds, plan.warm_up, rivals, progress, pause)
        rows = [_row(lane, mine, alone=len(lanes) == 1) for lane, mine in zip(lanes, rounds.lanes, strict=True)]
        setting = plan.setting(meter, sum(entry.num_repeats for entry in rounds.lanes[0]))
        equal = {rival.name: _num_equal(rival, rounds.lanes[0]) for rival in rivals}
    return report_from_rows(setting, tuple(rows), _peers(rounds), equal)


def run_soak(bundle: Bundle, plan: Plan, progress: Progress) -> SoakReport:
    """Run one bundle for a long time."""
    meter = NoMeter()
    with _lanes([bundle], plan, meter) as (lane,):
        return soak(lane, plan.moments(), plan.setting(meter, 0), progress)


@contextmanager
def _lanes(bundles: Sequence[Bundle], plan: Plan, meter: EnergyMeter) -> Iterator[list[Lane]]:
    """Open an engine for each bundle; all stay open, so that rounds can go from one to the next."""
    with ExitStack() as stack:
        lanes = []
        for bundle in bundles:
            engine = CountingEngine(engine_from_bundle(bundle, plan.engine, plan.threads))
            replay = ReplaySource() if plan.is_replaying else None
            lanes.append(Lane(bundle, stack.enter_context(engine), meter, plan.accept_failed, replay))
        yield lanes


def _row(lane: Lane, rounds: Sequence[Round], alone: bool) -> Row:
    peak = resident_memory()[1] if alone else 0
    return row_from_rounds(lane.bundle, lane.prompt_tokens, rounds, peak or None)


@contextmanager
def _rivals(plan: Plan, bundle: Bundle) -> Iterator[Sequence[PeerRival]]:
    """Load the rivals; without any, what converts checkpoints for them is not even imported."""
    if plan.peers is None:
        yield ()
        return
    from judo_edge.bench.peers.rivals import open_rivals

    with open_rivals(plan.peers, bundle) as rivals:
        yield rivals


def _num_equal(rival: PeerRival, rounds: Sequence[Round]) -> int:
    """Count the photos to which a rival wrote the plain greedy reply of the first bundle."""
    own = [dict(zip(entry.frame_ids, entry.greedy.inspections, strict=True)) for entry in rounds]
    return sum(rival.replies.get(name) == look.ids for entry in own for name, look in entry.items())


def _peers(rounds: Rounds) -> dict[str, Summary]:
    found = {name: summary_from_values(seconds, 1e3) for name, seconds in rounds.rivals.items()}
    return {name: summary for name, summary in found.items() if summary is not None}


def _cold_report(bundles: Sequence[Bundle], plan: Plan, progress: Progress) -> Report:
    processes = [ColdProcesses(bundle.folder, plan.engine, plan.threads, plan.accept_failed) for bundle in bundles]
    measured: list[list[tuple[Round, int]]] = [[] for _ in bundles]
    for number, (shot,) in enumerate(islice(plan.moments(), plan.warm_up + plan.rounds)):
        for mine, process in zip(measured, processes, strict=True):
            done = _cold_round(process, shot, drafts_first=number % 2 == 0)
            mine.extend([done] if number >= plan.warm_up else [])
        progress(number + 1)
    rows = tuple(_cold_row(bundle, mine) for bundle, mine in zip(bundles, measured, strict=True))
    repeats = sum(entry.num_repeats for entry, _ in measured[0])
    return report_from_rows(plan.setting(NoMeter(), repeats), rows)


def _cold_round(process: ColdProcesses, shot: Shot, drafts_first: bool) -> tuple[Round, int]:
    """Return a round and the peak memory of its process with drafts, bytes."""
    order: tuple[Drafts, Drafts] = ("on", "off") if drafts_first else ("off", "on")
    cold: dict[Drafts, Cold] = {drafts: process.look(shot, drafts) for drafts in order}
    done = Round((shot.name,), int(shot.is_repeat), cold["on"].looked, cold["off"].looked, None)
    return done, cold["on"].peak_rss_bytes


def _cold_row(bundle: Bundle, measured: Sequence[tuple[Round, int]]) -> Row:
    peak = max(peak for _, peak in measured)
    return row_from_rounds(bundle, prompt_tokens_of(bundle), [entry for entry, _ in measured], peak or None)
