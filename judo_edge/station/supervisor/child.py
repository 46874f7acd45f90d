"""One running process: started in a group of its own, heard through its output and its beats, ended with its group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

from judo_edge.station.processes.ties import BEAT, SUPERVISOR
from judo_edge.station.supervisor.logbook import LEVELS, Logbook
from judo_edge.station.supervisor.notify import without_notification
from judo_edge.station.supervisor.table import ProcessSpec

_READ = 64 << 10
_LONGEST_LINE = 4000


class Child:
    """A process that was started; make it with `start_child`."""

    def __init__(self, spec: ProcessSpec, process: asyncio.subprocess.Process, beats: int, logbook: Logbook) -> None:
        """Take the process and the reading end of its beats."""
        self.spec, self.process = spec, process
        self.started = time.monotonic()
        self.last_beat: float | None = None
        """Monotonic seconds; None before the first."""
        self._beats, self._logbook, self._level = beats, logbook, "INFO"
        os.set_blocking(beats, False)
        asyncio.get_running_loop().add_reader(beats, self._heard_beat)
        self._reading = asyncio.create_task(self._read_lines())

    @property
    def pid(self) -> int:
        """Return the process id, which is also that of its group."""
        return self.process.pid

    def silence(self) -> float:
        """Return the seconds since its last beat, or since its start."""
        return time.monotonic() - (self.started if self.last_beat is None else self.last_beat)

    def is_hung(self) -> bool:
        """Tell whether it has been silent for longer than its role may be."""
        limit = self.spec.start_limit if self.last_beat is None else self.spec.silent_limit
        return self.silence() > limit

    async def wait(self) -> int:
        """Wait until it has ended and its last lines are read; return its exit status, negative for a signal."""
        status = await self.process.wait()
        with contextlib.suppress(asyncio.TimeoutError):  # a grandchild may hold the pipe
            await asyncio.wait_for(asyncio.shield(self._reading), 1.0)
        self._reading.cancel()
        self._stop_hearing()
        self.signal(signal.SIGKILL)  # what it left behind in its group
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; harmless when it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _heard_beat(self) -> None:
        try:
            data = os.read(self._beats, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.last_beat = time.monotonic()
        else:
            self._stop_hearing()

    def _stop_hearing(self) -> None:
        if self._beats >= 0:
            asyncio.get_running_loop().remove_reader(self._beats)
            os.close(self._beats)
            self._beats = -1

    async def _read_lines(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        while data := await self.process.stdout.read(_READ):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._note(line)
            if len(rest) > _LONGEST_LINE:
                self._note(rest)
                rest = b""
        if rest:
            self._note(rest)

    def _note(self, line: bytes) -> None:
        """Log a line; one without a level, such as of a traceback, has that of the line before."""
        text = line[:_LONGEST_LINE].decode("utf-8", "replace")
        level, _, message = text.partition(" ")
        if level in LEVELS:
            self._level, text = level, message
        if text.strip():
            self._logbook.write(self.spec.name, self._level, text)


async def start_child(spec: ProcessSpec, logbook: Logbook) -> Child:
    """Start a process with closed stdin; OSError when the system refuses."""
    reading, writing = os.pipe()
    environment = dict(os.environ) | {BEAT: str(writing), SUPERVISOR: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
    try:
        process = await asyncio.create_subprocess_exec(
            *spec.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=without_notification(environment),
            pass_fds=(writing,),
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return Child(spec, process, reading, logbook)
