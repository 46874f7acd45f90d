"""The builder's own process: one job from standard input, lines of JSON to standard output.

A builder keeps most of what it took, so every graph gets a process, and its memory goes back with it.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable

from judo_edge.errors import JudoEdgeError, PlanError
from judo_edge.export.tensorrt.job import Answer, BuildJob, Built
from judo_edge.export.tensorrt.report import Kernel, LayerReport
from judo_edge.files import write_atomic
from judo_edge.machine import resident_memory
from judo_edge.plans import Environment, PlanHeader, PlanStore, key_of_user

TIMING = "timing"
"""Stands for bundle and graph of the timing cache, which is sealed and kept like a plan."""

Say = Callable[[Answer], None]


def main() -> int:
    """Read a job, answer, and return the exit code; whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: Answer) -> None:
        print(answer.model_dump_json(exclude_defaults=True), file=answers, flush=True)

    try:
        say(Answer(built=built_from_job(BuildJob.model_validate_json(sys.stdin.read()), say)))
    except JudoEdgeError as error:
        say(Answer(error=(error.found, error.wanted, error.action)))
        return error.exit_code
    return 0


def built_from_job(job: BuildJob, say: Say) -> Built:
    """Build, seal and describe one plan; raises PlanError or OutputError."""
    start = time.monotonic()
    _use(job.header.environment.backend)
    from judo_edge.export.tensorrt import builder

    store, header = PlanStore(job.store, key_of_user()), job.header
    timing = _timing(store, header.environment)
    with store.writer(header) as writer:
        kernels, timed = builder.build(job, timing, writer.write, lambda step: say(Answer(step=step)))
        size = writer.size
    if timed and timed != timing:
        store.write(_timing_header(header.environment), timed)
    if not kernels and not job.ahead:
        plan = store.read(header.bundle, header.environment, header.graph, "")
        kernels = list(builder.kernels_of_plan(plan.data))
    _save_report(job, kernels)
    return Built(
        graph=header.graph,
        plan_bytes=size,
        seconds=time.monotonic() - start,
        peak_bytes=resident_memory()[1],
        kernels=len(kernels),
    )


def _use(backend: str) -> None:
    """Let `tensorrt` name the builder that was asked for, in this process."""
    try:
        sys.modules["tensorrt"] = importlib.import_module(backend)
    except (ImportError, OSError) as error:
        action = "install it again, or the library that it misses"
        raise PlanError(f"{backend} cannot be loaded: {error}", action=action) from error


def _timing_header(environment: Environment) -> PlanHeader:
    return PlanHeader(bundle=TIMING, graph=TIMING, environment=environment, profiles=())


def _timing(store: PlanStore, environment: Environment) -> bytes:
    """Return the earlier timing cache, empty when there is none that this user sealed."""
    try:
        return bytes(store.read(TIMING, environment, TIMING, "").data)
    except PlanError:
        return b""


def _save_report(job: BuildJob, kernels: list[Kernel]) -> None:
    header = job.header
    report = LayerReport(graph=header.graph, builder=str(header.environment), kernels=tuple(kernels), facts=job.facts)
    write_atomic(job.report_path, (report.model_dump_json(indent=1) + "\n").encode(), force=True)
