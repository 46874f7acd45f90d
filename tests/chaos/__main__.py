"""Runs the station through faults and says what came of it; exit status 0 when everything held."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.checks import Run, problems_of, table_of
from tests.chaos.faults import chosen_faults, small_disk
from tests.chaos.harness import Harness
from tests.chaos.station import ChaosStation, processes_of

_HEAD = ("fault", "triggers", "OK", "NOK", "NOT_DECIDABLE", "codes")


def main() -> int:
    """Read the arguments, run, and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--triggers", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="folder of the station, by default a temporary one")
    parser.add_argument("--only", action="append", help="only this fault; repeat for more")
    found = parser.parse_args()
    if found.data:
        return run(found.data, found.triggers, found.seed, found.only)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        return run(Path(folder), found.triggers, found.seed, found.only)


def run(folder: Path, num_triggers: int, seed: int, only: list[str] | None = None) -> int:
    """Run one station in `folder`; 0 when everything held."""
    began = time.monotonic()
    with small_disk(folder / "data") as has_disk:
        chosen = chosen_faults(has_disk)
        faults = {name: fault for name, fault in chosen.faults.items() if not only or name in only}
        station = ChaosStation(folder)
        harness = Harness(station, faults, seed)
        problems, status = [], -1
        try:
            asyncio.run(harness.run(num_triggers))
        except TimeoutError as error:
            problems.append(f"the station did not come back: {error}")
        finally:
            status = station.stop()
        facts = harness.run_facts
        problems += problems_of(facts)
        if status != 0:
            problems.append(f"the stop was not clean: {status}")
        if left := processes_of(station.run_folder):
            problems.append(f"processes still run: {left}")
    _report(facts, chosen.left_out, problems)
    record = {
        "triggers": len(facts.jobs),
        "photos": len(facts.photos),
        "results": len(facts.results),
        "faults": dict(harness.num_faults),
        "left_out": chosen.left_out,
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "problems": problems,
    }
    print(json.dumps(record))
    return 1 if problems else 0


def _report(facts: Run, left_out: dict[str, str], problems: list[str]) -> None:
    rows = [_HEAD, *table_of(facts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    for problem in problems[:50]:
        print(f"PROBLEM: {problem}")


if __name__ == "__main__":
    sys.exit(main())
