"""Who is signed in: random ids in a cookie, everything else kept here. Knows no HTTP."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_SESSIONS = 1000
"""The one that was idle longest makes room for another."""


@dataclass
class Session:
    """One browser that signed in."""

    user: str
    stamp: str
    """What `UserStore.stamp` said at sign-in: another password or role ends the session."""
    used: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """What every POST of this browser repeats in a header."""


class Sessions:
    """All sessions of a process; they end with it."""

    def __init__(self, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Say after how many seconds without use a session ends."""
        self._idle, self._clock = idle_seconds, clock
        self._sessions: dict[str, Session] = {}

    def begin(self, user: str, stamp: str) -> str:
        """Return the id of a new session."""
        self._drop_idle()
        if len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda one: self._sessions[one].used)]
        session_id = secrets.token_urlsafe(32)
        self._sessions[session_id] = Session(user, stamp, self._clock())
        return session_id

    def find(self, session_id: str, is_use: bool) -> Session | None:
        """Return a session that has not ended; `is_use` restarts its idle time."""
        self._drop_idle()
        session = self._sessions.get(session_id)
        if session is not None and is_use:
            session.used = self._clock()
        return session

    def end(self, session_id: str) -> None:
        """End a session, if there is one."""
        self._sessions.pop(session_id, None)

    def _drop_idle(self) -> None:
        oldest = self._clock() - self._idle
        for session_id in [one for one, session in self._sessions.items() if session.used < oldest]:
            del self._sessions[session_id]
