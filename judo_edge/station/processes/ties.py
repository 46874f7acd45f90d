"""What ties a process to the supervisor that started it: it dies with it, and beats while its event loop turns.

Without a supervisor (in tests, by hand) nothing of this happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys

BEAT, SUPERVISOR = "JUDO_EDGE_BEAT", "JUDO_EDGE_SUPERVISOR"
"""Environment: the pipe that beats are written to, and the process id of the supervisor."""
BEAT_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1
"""prctl(2) of Linux."""


def die_with_supervisor() -> bool:
    """Have the system kill this process when its supervisor ends, however that ends; ends it now when that has gone.

    Returns False when no supervisor started this process.
    """
    wanted = os.environ.get(SUPERVISOR, "")
    if not wanted.isdigit() or sys.platform != "linux":
        return False
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(wanted):
        sys.exit(1)
    return True


async def beat() -> None:
    """Write a byte every half second, for as long as the event loop turns and somebody listens."""
    text = os.environ.get(BEAT, "")
    if not text.isdigit():
        return
    pipe = int(text)
    os.set_blocking(pipe, False)
    os.set_inheritable(pipe, False)
    while True:
        with contextlib.suppress(BlockingIOError):  # the supervisor is stopped: the pipe holds enough
            os.write(pipe, b".")
        await asyncio.sleep(BEAT_SECONDS)
