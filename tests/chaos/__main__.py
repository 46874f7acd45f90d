"""Runs the station through faults and says what came of it; exit status 0 when everything held."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.checks import problems_of
from tests.chaos.faults import chosen_faults, small_disk
from tests.chaos.harness import Harness
from tests.chaos.line import Line
from tests.chaos.plan import NANO, OPCUA_SHARE, SCRIPTED, Pace
from tests.chaos.report import Report
from tests.chaos.station import ChaosStation, processes_of

Wanted = Callable[[str], bool]


def main() -> int:
    """Read the arguments, run, and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--triggers", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder of the station, by default a temporary one")
    parser.add_argument("--only", action="append", default=[], help="only this fault; repeat for more")
    parser.add_argument("--without", action="append", default=[], help="no faults with this in their names; repeatable")
    parser.add_argument("--nano", action="store_true", help="real inference by JUDO-nano, slower; needs torch")
    parser.add_argument("--pace", type=float, help="mean of the seconds between two triggers")
    found = parser.parse_args()
    options: dict[str, Any] = {
        "only": found.only,
        "without": found.without,
        "is_nano": found.nano,
        "seconds": found.pace,
    }
    if found.data:
        return run(found.data, found.triggers, found.seed, **options)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        return run(Path(folder), found.triggers, found.seed, **options)


def run(
    folder: Path,
    num_triggers: int,
    seed: int,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    is_nano: bool = False,
    seconds: float | None = None,
) -> int:
    """Run one station in `folder` and print what came of it; 0 when everything held."""
    usual = NANO if is_nano else SCRIPTED
    pace = Pace(seconds or usual.seconds, usual.callers)
    with small_disk(folder / "data") as has_disk:
        report = _run(folder, num_triggers, seed, _wanted(only, without), is_nano, pace, has_disk)
    print(report.markdown())
    print(json.dumps(report.record()))
    return 1 if report.problems else 0


def _run(
    folder: Path, num_triggers: int, seed: int, is_wanted: Wanted, is_nano: bool, pace: Pace, has_disk: bool
) -> Report:
    station = _station(folder, is_nano)
    num_opcua = round(num_triggers * OPCUA_SHARE)
    line = Line(station, num_opcua, pace.seconds * (num_triggers - num_opcua) / max(1, num_opcua), seed)
    chosen = chosen_faults(has_disk, line.link)
    faults = {name: fault for name, fault in chosen.faults.items() if is_wanted(name)}
    harness = Harness(station, line, faults, seed, pace)
    began = time.monotonic()
    problems = asyncio.run(_ran(harness, line, num_triggers - num_opcua))
    status = station.stop()
    problems += [*harness.problems, *problems_of(harness.run_facts)]
    if status != 0:
        problems.append(f"the stop was not clean: {status}")
    if left := processes_of(station.run_folder):
        problems.append(f"processes still run: {left}")
    settings = {"seed": seed, "engine": "JUDO-nano" if is_nano else "scripted", "seconds": _since(began)}
    memory = harness.memory.rows()
    return Report(harness.run_facts, harness.num_faults, memory, chosen.left_out, problems, settings)


def _wanted(only: Sequence[str], without: Sequence[str]) -> Wanted:
    return lambda name: (not only or name in only) and not any(word in name for word in without)


async def _ran(harness: Harness, line: Line, num_triggers: int) -> list[str]:
    try:
        await harness.run(num_triggers)
    except TimeoutError as error:
        return [f"the station did not come back: {error}"]
    finally:
        await line.stop()
    return []


def _station(folder: Path, is_nano: bool) -> ChaosStation:
    if not is_nano:
        return ChaosStation(folder, has_facades=True)
    from tests.chaos.nano import export_nano, prepare_parts

    station = ChaosStation(folder, deadline=5.0, bundle=str(export_nano(folder)), has_facades=True)
    prepare_parts(station.file)
    return station


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


if __name__ == "__main__":
    sys.exit(main())
