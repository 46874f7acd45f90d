"""Runs one build in a process of its own and says what became of it. Knows processes; nothing of TensorRT."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress

from pydantic import ValidationError

from judo_edge.errors import PlanError
from judo_edge.export.tensorrt.job import Answer, BuildJob, Built

_TAIL = 400
"""Characters of a dead process's last words that an error repeats."""


def run_job(job: BuildJob, tell: Callable[[str], None] = lambda step: None) -> Built:
    """Build in a process of its own; `tell` is given each step.

    Raises PlanError with the builder's reason, or the signal that ended the process (out of memory: SIGKILL). The
    process never outlives this call.
    """
    command = [sys.executable, "-m", "judo_edge.export.tensorrt"]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:  # a pipe could fill up and block
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=words, text=True, encoding="utf-8") as process:
            try:
                if built := _answered(process, job, tell):
                    return built
            finally:
                process.kill()
        words.seek(0)
        raise _silence(job, process.returncode, words.read().strip()[-_TAIL:])


def _answered(process: subprocess.Popen[str], job: BuildJob, tell: Callable[[str], None]) -> Built | None:
    """Return the answer, None when the process ended without one."""
    assert process.stdin and process.stdout
    with suppress(BrokenPipeError):
        process.stdin.write(job.model_dump_json())
        process.stdin.close()
    for line in process.stdout:
        answer = _answer_from_line(line)
        if answer.error:
            raise PlanError(*answer.error)
        if answer.built:
            return answer.built
        tell(answer.step)
    process.wait()
    return None


def _silence(job: BuildJob, code: int, words: str) -> PlanError:
    """Say how a process ended that gave no answer."""
    how = f"ended with code {code} and no answer"
    if code < 0:
        name = signal.Signals(-code).name
        how = f"was ended by {name}" + (", most likely for lack of memory" if name == "SIGKILL" else "")
    action = "judo-edge build --dry-run shows the memory that each graph needs"
    return PlanError(f"the builder of {job.header.graph} {how}" + (f": {words}" if words else ""), action=action)


def _answer_from_line(line: str) -> Answer:
    try:
        return Answer.model_validate_json(line)
    except ValidationError as error:
        raise PlanError(f"the builder's process said {line[:_TAIL]!r}", "one line of JSON") from error
