"""Where the lines of all processes go: stderr, and a rotating file each. Knows no process.

A thread writes, from a bounded queue: a slow or full disk costs lines, never a verdict.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import queue
import sys
import threading
from pathlib import Path
from typing import TextIO

from judo_edge.station.results import utc_now

FILE_BYTES, FILES_KEPT = 4 << 20, 3
"""Bytes of a log file before a new one is begun, and how many earlier ones stay."""
_WAITING = 10_000
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
"""Syslog's, as the journal reads them from `<N>` at the start of a line."""
LEVELS = tuple(_PRIORITIES)

_Line = tuple[str, str, str, str]
"""Time, process, level, text."""


class _QuietFile(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Lose the line and open the file anew for the next one: a full disk must not stop anything, nor for ever."""
        stream, self.stream = self.stream, None
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.close()


class Logbook:
    """Takes lines from any thread; `close` writes what still waits."""

    def __init__(self, folder: Path, stream: TextIO | None = None, in_journal: bool = False) -> None:
        """Name the folder of the files; `in_journal` leaves the time to the journal and writes priorities."""
        self._folder, self._stream, self._in_journal = folder, stream or sys.stderr, in_journal
        self._files: dict[str, _QuietFile] = {}
        self._lines: queue.Queue[_Line | None] = queue.Queue(_WAITING)
        self.num_lost = 0
        self._thread = threading.Thread(target=self._write_all, name="logbook", daemon=True)
        self._thread.start()

    def write(self, process: str, level: str, text: str) -> None:
        """Note one line of a process; never blocks."""
        try:
            self._lines.put_nowait((utc_now(), process, level, text.rstrip()))
        except queue.Full:
            self.num_lost += 1

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, for at most `timeout` seconds, and close the files."""
        try:
            self._lines.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            self._show(*line)
            self._keep(*line)
        for file in self._files.values():
            with contextlib.suppress(OSError):
                file.close()

    def _show(self, at: str, process: str, level: str, text: str) -> None:
        head = f"<{_PRIORITIES.get(level, 6)}>" if self._in_journal else f"{at} "
        try:
            self._stream.write(f"{head}{process} {level} {text}\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.num_lost += 1

    def _keep(self, at: str, process: str, level: str, text: str) -> None:
        file = self._files.get(process)
        if file is None:
            path = self._folder / f"{process}.log"
            options = {"maxBytes": FILE_BYTES, "backupCount": FILES_KEPT, "encoding": "utf-8", "delay": True}
            file = self._files[process] = _QuietFile(path, **options)  # type: ignore[arg-type]
        message = f"{at} {level} {text}"
        file.emit(logging.LogRecord(process, logging.INFO, "", 0, message, None, None))
