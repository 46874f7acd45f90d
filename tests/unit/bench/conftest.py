"""A bundle over an engine that writes given replies, ready to be measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from judo_edge.bench.counting import CountingEngine
from judo_edge.bench.energy import NoMeter
from judo_edge.bench.lane import Lane
from judo_edge.bench.replay import ReplaySource
from judo_edge.bench.rounds import Shots, stream
from judo_edge.bench.sources import DrawnParts
from judo_edge.bench.workloads import Workload, slots
from judo_edge.bundle import Bundle
from tests.scripted import GOOD, ScriptedEngine, scripted_bundle

Script = Callable[[float], str]


def always_good(red: float) -> str:
    return GOOD


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return scripted_bundle(tmp_path_factory.mktemp("bench") / "bundle")


@pytest.fixture
def lane_of(bundle: Bundle) -> Callable[..., Lane]:
    """Return a function from a script and the method that fails to a lane."""

    def made(script: Script = always_good, broken: str = "", replay: ReplaySource | None = None) -> Lane:
        return Lane(bundle, CountingEngine(ScriptedEngine(script, broken)), NoMeter(), replay=replay)

    return made


@pytest.fixture
def shots() -> Callable[..., list[Shots]]:
    """Return a function to the first moments of a line."""

    def made(count: int, cameras: int = 1) -> list[Shots]:
        moments = stream(DrawnParts(["board"], 0), slots(Workload.GOOD_LINE, 1, 0), cameras)
        return [next(moments) for _ in range(count)]

    return made
