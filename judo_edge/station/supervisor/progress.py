"""From what the hub says to what systemd hears: ready once, a status line, alive only while verdicts get through."""

from __future__ import annotations

import time
from collections.abc import Callable

from judo_edge.station.results import Status
from judo_edge.station.states import State
from judo_edge.station.supervisor.notify import Notifier

STUCK_SECONDS = 15.0
"""A hub that answers, or does not, but whose heartbeat stood still for so long, is started again."""
_EXTENSION_USEC = 30_000_000
"""What a beat adds to the time that systemd waits for READY=1."""


class Progress:
    """Follows the hub's heartbeat counter, which the loop that delivers verdicts moves."""

    def __init__(self, notifier: Notifier, is_automatic: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """`is_automatic`: whether the station goes to Ready by itself; otherwise Preoperational counts as ready."""
        self._notifier, self._is_automatic, self._clock = notifier, is_automatic, clock
        self._heartbeat: int | None = None
        self._moved = clock()
        self._was_ready = False
        self._text = ""

    def hub_started(self) -> None:
        """Count from now on: a new hub has time to come up."""
        self._heartbeat, self._moved = None, self._clock()

    def take(self, status: Status | None) -> None:
        """Hear what the hub said, None for nothing, and tell systemd what follows from it."""
        if status is None:
            return
        if self._heartbeat is not None and status.heartbeat != self._heartbeat:
            self._moved = self._clock()
            self._tell_alive()
        elif self._heartbeat is None:
            self._moved = self._clock()
        self._heartbeat = status.heartbeat
        self._tell_ready(status)
        self._tell_text(text_of_status(status))

    def is_stuck(self) -> bool:
        """Tell whether the hub was heard and its heartbeat then stood still for too long."""
        return self._heartbeat is not None and self._clock() - self._moved > STUCK_SECONDS

    def _tell_alive(self) -> None:
        if self._notifier.watchdog is not None:
            self._notifier.send(WATCHDOG="1")
        if not self._was_ready:
            self._notifier.send(EXTEND_TIMEOUT_USEC=str(_EXTENSION_USEC))

    def _tell_ready(self, status: Status) -> None:
        is_ready = status.state.is_operational if self._is_automatic else status.state is not State.ERROR
        if is_ready and not self._was_ready:
            self._was_ready = True
            self._notifier.send(READY="1")

    def _tell_text(self, text: str) -> None:
        if text != self._text:
            self._text = text
            self._notifier.send(STATUS=text)


def text_of_status(status: Status) -> str:
    """Say in one line how a station is, for `systemctl status`."""
    active = [one.name for one in status.conditions if one.is_active]
    trouble = f"; {', '.join(active[:5])}{' ...' if len(active) > 5 else ''}" if active else ""
    recipes = ", ".join(recipe.external_id for recipe in status.recipes) or "no recipe"
    return f"{status.state.value} ({recipes}), {status.last_number} verdicts{trouble}"
