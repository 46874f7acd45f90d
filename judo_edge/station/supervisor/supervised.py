"""One place in the process table: started, watched, and started again for as long as the station runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable

from judo_edge.station.results import ProcessHealth, utc_now
from judo_edge.station.supervisor.backoff import MANY, Backoff
from judo_edge.station.supervisor.child import Child, start_child
from judo_edge.station.supervisor.logbook import Logbook
from judo_edge.station.supervisor.table import ProcessSpec

_LOOK = 0.25
"""Seconds between two looks at a child that is alive."""


class Supervised:
    """Runs a process again and again; `on_change` hears whenever its health changes."""

    def __init__(self, spec: ProcessSpec, logbook: Logbook, on_change: Callable[[], None] = lambda: None) -> None:
        """Start nothing yet."""
        self.spec = spec
        self.health = ProcessHealth(name=spec.name, role=spec.role, state="stopped", since=utc_now())
        self._logbook, self._on_change = logbook, on_change
        self._backoff = Backoff()
        self._child: Child | None = None
        self._why, self._is_stopping = "", False
        self._at_once = asyncio.Event()

    async def run(self) -> None:
        """Keep the process running until `stop`."""
        while not self._is_stopping:
            lived, why = await self._live()
            if not self._is_stopping:
                await self._rest(lived, why)
        self._become("stopped", detail="")

    async def restart(self, why: str) -> None:
        """Kill the process, if it runs, and start it without a wait."""
        self._at_once.set()
        self.kill(why)

    def kill(self, why: str) -> None:
        """Kill the process; it comes back after its wait."""
        if self._child is not None:
            self._why = why
            self._logbook.write(self.spec.name, "WARNING", f"killed: {why}")
            self._child.signal(signal.SIGKILL)

    async def stop(self, limit: float | None = None) -> None:
        """Ask the process to end, kill it after `limit` seconds (by default its own), and leave it ended."""
        self._is_stopping = True
        self._at_once.set()
        if (child := self._child) is None:
            return
        child.signal(signal.SIGTERM)
        child.signal(signal.SIGCONT)  # a stopped process hears nothing before
        seconds = self.spec.stop_limit if limit is None else limit
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(child.process.wait()), seconds)
            return
        self.kill(f"did not end within {seconds:g} s")

    async def _live(self) -> tuple[float, str]:
        """Start the process and wait until it has ended; return how long it lived and why it ended."""
        self._at_once.clear()
        self._become("starting", detail=self.health.detail)
        try:
            child = self._child = await start_child(self.spec, self._logbook)
        except OSError as error:
            return 0.0, f"cannot be started: {error.strerror or error}"
        self._become("starting", detail=self.health.detail, pid=child.pid)
        if self._is_stopping:
            child.signal(signal.SIGTERM)
        status = await self._watched(child)
        self._child = None
        why, self._why = self._why or text_of_status(status), ""
        return time.monotonic() - child.started, why

    async def _watched(self, child: Child) -> int:
        ending = asyncio.create_task(child.wait())
        while not ending.done():
            await asyncio.wait({ending}, timeout=_LOOK)
            if ending.done():
                break
            if self.health.state == "starting" and child.last_beat is not None:
                self._become("ready", detail=self._often(), pid=child.pid)
            if child.is_hung() and not self._why:
                self.kill(f"its event loop stood still for {child.silence():.0f} s")
        return ending.result()

    async def _rest(self, lived: float, why: str) -> None:
        now = time.monotonic()
        delay = self._backoff.delay(lived, now)
        if self._at_once.is_set():
            delay = 0.0
        self._logbook.write(self.spec.name, "ERROR", f"ended: {why}; starts again in {delay:.1f} s")
        often = self._often()
        detail = f"{why}; {often}" if often else why
        self.health = self.health.model_copy(update={"restarts": self.health.restarts + 1})
        self._become("waiting", detail=detail)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._at_once.wait(), delay)

    def _often(self) -> str:
        recent = self._backoff.recent(time.monotonic())
        return f"ended {recent} times within a minute" if recent > MANY else ""

    def _become(self, state: str, detail: str, pid: int = 0) -> None:
        update = {"state": state, "detail": detail, "pid": pid}
        if state != self.health.state:
            update["since"] = utc_now()
        self.health = self.health.model_copy(update=update)
        self._on_change()


def text_of_status(status: int) -> str:
    """Say in words how a process ended, from its exit status as `subprocess` counts it."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
