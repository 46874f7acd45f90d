"""Frames that wait between a thread that brings them and one that takes them. Knows no camera.

A triggered line lets the bringer wait; a free-running camera drops the oldest. Every drop is counted and tells its
place.
"""

from __future__ import annotations

import threading
from collections import deque
from enum import Enum
from typing import Generic, TypeVar

FrameT = TypeVar("FrameT")


class WaitingPolicy(str, Enum):
    """What happens to a frame that finds no room."""

    WAIT = "wait"
    """The bringer waits until there is room: no frame is lost here."""
    DROP_OLDEST = "drop-oldest"
    """The frame that waited longest goes, and is counted."""


class WaitingFrames(Generic[FrameT]):
    """A bounded line of frames for threads, in order."""

    def __init__(self, policy: WaitingPolicy = WaitingPolicy.DROP_OLDEST, capacity: int = 1) -> None:
        """Make an empty line for `capacity` frames, at least one."""
        if capacity < 1:
            raise ValueError(f"a capacity of {capacity}: at least one frame must be able to wait")
        self.policy, self.capacity = policy, capacity
        self._line: deque[FrameT] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._gap = 0
        self.num_dropped = 0
        """Frames dropped since the line was made."""

    def __len__(self) -> int:
        """Count the frames that wait."""
        return len(self._line)

    def put(self, frame: FrameT) -> bool:
        """Add a frame, as the policy says; False when the line was closed and the frame is not kept."""
        with self._changed:
            if self.policy is WaitingPolicy.WAIT:
                self._changed.wait_for(lambda: self._closed or len(self._line) < self.capacity)
            if self._closed:
                return False
            if len(self._line) == self.capacity:
                self._drop_oldest()
            self._line.append(frame)
            self._changed.notify_all()
            return True

    def take(self, timeout: float) -> tuple[FrameT, int] | None:
        """Return the oldest frame and how many were dropped right before it; None after `timeout` s or at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._line), max(0.0, timeout))
            if not self._line:
                return None
            frame = self._line.popleft()
            gap, self._gap = self._gap, 0
            self._changed.notify_all()
            return frame, gap

    def close(self) -> None:
        """Wake everyone: `put` refuses from now on, `take` gives what still waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _drop_oldest(self) -> None:
        self._line.popleft()
        self._gap += 1
        self.num_dropped += 1
