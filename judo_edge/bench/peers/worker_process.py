"""Our side of the talk with a rival's process: one JSON line out, one JSON line back, nothing waited for in vain."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from judo_edge.bench.peers.probe import clean_environment
from judo_edge.errors import EngineError, OutputError

END_SECONDS = 10.0
_SHOWN = 300
"""Letters of a strange answer that an error shows."""


class WorkerProcess:
    """A rival's process; every failure of it is an EngineError that says what it said last."""

    def __init__(self, command: Sequence[str], log: Path, threads: int, timeout: float) -> None:
        """Name the command, the file that takes its stderr, and the longest wait for an answer in seconds."""
        self._command, self._log, self._threads, self._timeout = list(command), log, threads, timeout
        self._lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> WorkerProcess:
        """Start it; EngineError when it cannot be started."""
        pipe = subprocess.PIPE
        try:
            with self._log.open("wb") as words:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=pipe,
                    stdout=pipe,
                    stderr=words,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    env=clean_environment(self._threads),
                )
        except OSError as error:
            raise EngineError(f"{self._command[0]} cannot be started: {error}", "the rival's Python") from error
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it: by closing its input, or by force when it does not listen or something went wrong."""
        assert self._process.stdin
        if kind is not None:
            self._process.kill()
        with suppress(OSError):  # it may be gone, with a line in the pipe
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return its answer.

        Raises EngineError when the process ends, answers an error or no JSON object, or does not answer in time.
        """
        assert self._process.stdin
        with suppress(OSError):  # it may have ended; what it said is in the queue
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        answer = self._object(self._line())
        if "error" in answer:
            raise EngineError(f"it fails: {answer['error']}", "a reply", f"read {self._log}")
        return answer

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _line(self) -> str:
        try:
            line = self._lines.get(timeout=self._timeout)
        except queue.Empty:
            self._process.kill()
            found = f"no answer in {self._timeout:g} s"
            raise EngineError(found, "a reply", f"allow more time, or read {self._log}") from None
        if line is None:
            code = self._process.wait()
            raise EngineError(f"it ended with exit code {code}: {self._last_words()}", "a reply", f"read {self._log}")
        return line

    def _object(self, line: str) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineError(f"it answers {line.strip()[:_SHOWN]!r}", "a line of JSON", f"read {self._log}")
        return answer

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError as error:
            raise OutputError(f"{self._log}: {error.strerror}", "a readable log") from error
        return lines[-1][:_SHOWN] if lines else "it said nothing"
