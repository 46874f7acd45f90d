"""What is told of a run: a Markdown table of faults and outcomes, memory, and one line of JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from judo_edge.core import Decision
from judo_edge.station.results import Code, Result
from tests.chaos.checks import Run

NO_FAULT = "none"


@dataclass(frozen=True)
class Report:
    """Everything that is told."""

    run: Run
    num_faults: Mapping[str, int]
    memory: Sequence[Mapping[str, Any]]
    left_out: Mapping[str, str]
    problems: Sequence[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Such as seed and seconds."""

    def markdown(self) -> str:
        """Return both tables."""
        lines = [*_table(_FAULTS, self._rows()), "", *_table(_MEMORY, map(_memory_row, self.memory)), ""]
        lines += [f"Left out: {name}: {why}" for name, why in self.left_out.items()]
        return "\n".join([*lines, *(f"PROBLEM: {one}" for one in self.problems[:50])])

    def record(self) -> dict[str, Any]:
        """Return what goes into one line of JSON."""
        run, journal = self.run, self.run.journal
        ways = Counter("+".join(sorted(found)) for found in journal.ways.values())
        return {
            **self.settings,
            "triggers": len(run.jobs) + len(journal.at),
            "by_api": len(run.jobs),
            "by_opcua": {name: len(getattr(journal, name)) for name in ("accepted", "refused", "unknown")},
            "opcua_connections": journal.num_connections,
            "opcua_results": dict(ways),
            "photos": len(run.photos),
            "results": len(run.results),
            "decisions": dict(Counter(result.decision.value for result in run.results)),
            "faults": dict(self.num_faults),
            "memory": list(self.memory),
            "left_out": dict(self.left_out),
            "problems": list(self.problems),
        }

    def _rows(self) -> Iterable[Sequence[str]]:
        by_fault = _results_by_fault(self.run)
        for fault in [NO_FAULT, *sorted(self.num_faults)]:
            count = "" if fault == NO_FAULT else str(self.num_faults[fault])
            yield fault, count, *_outcomes(by_fault.get(fault, []))
        yield "all", str(sum(self.num_faults.values())), *_outcomes(self.run.results)


_FAULTS = ("fault under way at the trigger", "injected", "parts", "OK", "NOK", "NOT_DECIDABLE", "codes of these")
_MEMORY = ("process", "lives", "longest life s", "largest MiB", "growth MiB/h")


def _results_by_fault(run: Run) -> dict[str, list[Result]]:
    key_of = {job_id: key for key, job_id in run.jobs.items()}
    found: dict[str, list[Result]] = {}
    for result in run.results:
        key = key_of.get(result.job_id, result.part_id)
        found.setdefault(run.during.get(key) or NO_FAULT, []).append(result)
    return found


def _outcomes(results: Sequence[Result]) -> tuple[str, ...]:
    decisions = Counter(result.decision for result in results)
    codes = Counter(result.code.name for result in results if result.code is not Code.INSPECTED)
    told = ", ".join(f"{name} {count}" for name, count in codes.most_common())
    return (str(len(results)), *(str(decisions[one]) for one in Decision), told)


def _memory_row(one: Mapping[str, Any]) -> Sequence[str]:
    growth = "too short" if one["mib_per_hour"] is None else str(one["mib_per_hour"])
    return one["process"], str(one["lives"]), str(one["longest_seconds"]), str(one["max_mib"]), growth


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
