"""What a check finds, and how checks are run: one that breaks is a finding too. Knows no check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from judo_edge.config import Frozen
from judo_edge.errors import JudoEdgeError, first_line


class Level(str, Enum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    """Works, and may fail the line one day."""
    FAIL = "fail"
    """The station does not do what its file says."""


class Finding(Frozen):
    """One line of the doctor."""

    name: str
    level: Level
    found: str
    action: str = ""
    """What to do; empty when nothing is."""


Check = Callable[[], Iterable[Finding]]


def ok(name: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(name=name, level=Level.OK, found=found)


def warn(name: str, found: str, action: str) -> Finding:
    """Return a finding that should be looked at."""
    return Finding(name=name, level=Level.WARN, found=found, action=action)


def fail(name: str, found: str, action: str) -> Finding:
    """Return a finding that has to be put right."""
    return Finding(name=name, level=Level.FAIL, found=found, action=action)


def findings_of(checks: Iterable[tuple[str, Check]]) -> Iterator[Finding]:
    """Run checks in order and yield what they find; an error of ours keeps its advice."""
    for name, check in checks:
        yield from _findings_of(name, check)


def _findings_of(name: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except JudoEdgeError as error:
        wanted = f"wanted: {error.wanted}" if error.wanted else ""
        yield fail(name, error.found, error.action or wanted or "see the message")
    except Exception as error:  # a check that breaks must not hide the others
        yield fail(name, f"{type(error).__name__}: {first_line(error)}", "report this check as broken")


def is_fit(findings: Iterable[Finding]) -> bool:
    """Tell whether nothing failed."""
    return all(finding.level is not Level.FAIL for finding in findings)
