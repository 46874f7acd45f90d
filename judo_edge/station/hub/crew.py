"""Who is there: cameras and the inspector as they come and go, and what the supervisor says of the processes.

Knows no jobs; whoever cares is told by `changed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from judo_edge.errors import JudoEdgeError, StationError
from judo_edge.station.hub.workers import Eye, Judge
from judo_edge.station.results import Code, ProcessHealth

AWAY = -30
"""Number of the StationError for a process that is needed and not there."""
UNKNOWN_CAMERA = -13
Restart = Callable[[str], Awaitable[None]]


class Crew:
    """The workers by name. A worker that comes again takes the place of the one before."""

    def __init__(self, cameras: Sequence[str], changed: Callable[[], None]) -> None:
        """Name the cameras of the station; nobody is there yet."""
        self.cameras, self._changed = tuple(cameras), changed
        self.judge: Judge | None = None
        self.had_judge = False
        self.processes: tuple[ProcessHealth, ...] = ()
        self.faults: dict[str, tuple[int, str]] = {}
        """What is wrong with a camera that is there: code and text."""
        self._eyes: dict[str, Eye] = {}
        self._seen: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._restart: Restart | None = None
        self._num_calls, self._idle_since = 0, 0.0

    # -- coming and going ----------------------------------------------------------------------------------------------
    def join_judge(self, judge: Judge) -> None:
        """Take an inspector."""
        self.judge, self.had_judge = judge, True
        self._changed()

    def leave_judge(self, judge: Judge) -> None:
        """Note that an inspector has gone."""
        if self.judge is judge:
            self.judge = None
            self._changed()

    def join_eye(self, name: str, eye: Eye) -> None:
        """Take a camera; StationError when the station has none of that name."""
        if name not in self.cameras:
            raise StationError(
                f"camera {name!r}", f"one of {', '.join(self.cameras)}", "see STATION.toml", UNKNOWN_CAMERA
            )
        self._eyes[name] = eye
        self._seen.add(name)
        self.faults.pop(name, None)
        self._changed()

    def leave_eye(self, name: str, eye: Eye) -> None:
        """Note that a camera has gone."""
        if self._eyes.get(name) is eye:
            del self._eyes[name]
            self._changed()

    def camera_state(self, name: str, code: int, text: str) -> None:
        """Note what a camera says of itself; code 0: it works."""
        if code:
            self.faults[name] = (code, text)
        else:
            self.faults.pop(name, None)
        self._changed()

    def follow(self, restart: Restart) -> None:
        """Take the supervisor's way to start a process again."""
        self._restart = restart

    def unfollow(self, restart: Restart) -> None:
        """Note that a supervisor has gone."""
        if self._restart is restart:
            self._restart = None

    @contextlib.contextmanager
    def judge_is_busy(self) -> Iterator[None]:
        """Note that the inspector is asked for something that may keep it from inspecting."""
        self._num_calls += 1
        try:
            yield
        finally:
            self._num_calls -= 1
            self._idle_since = time.monotonic()

    def was_judge_idle(self, seconds: float) -> bool:
        """Tell whether nothing but inspections was asked of the inspector for so long."""
        return self._num_calls == 0 and time.monotonic() - self._idle_since >= seconds

    # -- who is there --------------------------------------------------------------------------------------------------
    def needed_judge(self) -> Judge:
        """Return the inspector; StationError when it is not there."""
        if self.judge is None:
            raise StationError("the inspector is not there", "a running inspector", "wait, or see its log", AWAY)
        return self.judge

    def name_of(self, camera: str) -> str:
        """Return a camera's name, the first one's for an empty one; StationError for an unknown one."""
        name = camera or next(iter(self.cameras), "")
        if name not in self.cameras:
            wanted = f"one of {', '.join(self.cameras)}" if self.cameras else "a station with a camera"
            raise StationError(f"camera {camera!r}", wanted, "see STATION.toml", UNKNOWN_CAMERA)
        return name

    def eye(self, name: str) -> Eye | None:
        """Return a camera, None when it is not there."""
        return self._eyes.get(name)

    def lock(self, name: str) -> asyncio.Lock:
        """Return what lets one job at a time use a camera, in order."""
        return self._locks.setdefault(name, asyncio.Lock())

    def camera_fault(self, name: str, is_patient: bool) -> tuple[int, str] | None:
        """Return what is wrong with a camera; while one is patient, a camera that has never come is not."""
        if name in self._eyes:
            return self.faults.get(name)
        if is_patient and name not in self._seen:
            return None
        return int(Code.CAMERA_UNPLUGGED), "its process is not there"

    def has_seen_all_cameras(self) -> bool:
        """Tell whether every camera's process has come since the start."""
        return self._seen.issuperset(self.cameras)

    def is_any_camera_fit(self) -> bool:
        """Tell whether a photo can be taken at all; a station without cameras is given its photos."""
        return not self.cameras or any(name in self._eyes and name not in self.faults for name in self.cameras)

    async def restart(self, name: str) -> None:
        """Have the supervisor start a process again, where there is one."""
        if self._restart is not None:
            with contextlib.suppress(JudoEdgeError):
                await self._restart(name)
