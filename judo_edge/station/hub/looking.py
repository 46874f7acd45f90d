"""What is asked of cameras and inspector for one job, and which code each of their faults is.

Raises `FaultError` for whatever goes wrong: nothing here waits for ever, and nothing here decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from judo_edge.errors import StationError, first_line
from judo_edge.station.hub.crew import Crew
from judo_edge.station.hub.jobs import OpenJob
from judo_edge.station.results import Code
from judo_edge.station.wire import LostError
from judo_edge.station.workers import Outcome, Spooled

GRAB_SLACK = 1.0
"""Seconds after a job's deadline within which a camera must answer at all; then its process is started again."""
Progress = Callable[[dict[str, Any]], None]


class FaultError(Exception):
    """Something went wrong with a job; says which code it is."""

    def __init__(self, code: Code, reason: str) -> None:
        """Take the code and the reason in words."""
        super().__init__(reason)
        self.code, self.reason = code, reason


class Looking:
    """Takes photos and has them inspected, one at a time and in order for each camera and for the inspector."""

    def __init__(
        self, crew: Crew, clock: Callable[[], float], patience: float, discard: Callable[[Spooled], None]
    ) -> None:
        """Take who is there; `patience` is how many seconds an inspection may take before its process is given up.

        `discard` removes a photo that came too late.
        """
        self._crew, self._clock, self._patience, self._discard = crew, clock, patience, discard
        self._turn = asyncio.Lock()

    async def photo(self, one: OpenJob) -> Spooled:
        """Return the photo of a job, taken now unless it waits already."""
        request = one.job.request
        if one.spooled is not None:
            return one.spooled
        if request.path:
            return Spooled(file="", captured_ns=int(self._clock() * 1e9), captured=one.job.created, path=request.path)
        async with self._crew.lock(request.camera):
            if one.finding is not None:
                raise FaultError(one.finding.code, "no photo was taken any more")
            return await self._grab(one)

    async def outcome(self, one: OpenJob, spooled: Spooled, progress: Progress) -> Outcome:
        """Return what the inspector says of a photo; FaultError too when the verdict fell before its turn came."""
        async with self._turn:
            if one.finding is not None:
                raise FaultError(one.finding.code, "not looked at any more")
            return await self._inspected(one, spooled, progress)

    async def _grab(self, one: OpenJob) -> Spooled:
        name = one.job.request.camera
        eye = self._crew.eye(name)
        if eye is None:
            raise FaultError(Code.CAMERA_UNPLUGGED, f"camera {name} is not there")
        left = max(0.05, one.began + one.job.deadline - self._clock())
        grabbing = asyncio.ensure_future(eye.grab(one.job_id, left, int(one.began * 1e9)))
        try:
            return await asyncio.wait_for(asyncio.shield(grabbing), left + GRAB_SLACK)
        except (TimeoutError, asyncio.TimeoutError):
            grabbing.add_done_callback(self._too_late)
            await self._crew.restart(name)
            raise FaultError(Code.CAMERA_TIMEOUT, f"camera {name} does not answer") from None
        except LostError:
            raise FaultError(Code.CAMERA_UNPLUGGED, f"camera {name} has gone") from None
        except StationError as error:
            raise FaultError(_camera_code(error.number), first_line(error)) from error

    def _too_late(self, grabbing: asyncio.Future[Spooled]) -> None:
        """Have a photo removed that came when nobody waited for it any more."""
        if not grabbing.cancelled() and grabbing.exception() is None:
            self._discard(grabbing.result())

    async def _inspected(self, one: OpenJob, spooled: Spooled, progress: Progress) -> Outcome:
        judge = self._crew.judge
        if judge is None or one.recipe is None:
            raise FaultError(Code.INSPECTOR_LOST, "the inspector is not there")
        try:
            items = judge.inspect(one.job_id, one.recipe.internal_id, spooled)
            return await self._awaited(_outcome(items, progress))
        except (TimeoutError, asyncio.TimeoutError):
            self._crew.leave_judge(judge)
            await self._crew.restart("inspector")
            await judge.close()
            raise FaultError(Code.INSPECTOR_LOST, f"the inspector did not answer for {self._patience:g} s") from None
        except LostError:
            self._crew.leave_judge(judge)
            raise FaultError(Code.INSPECTOR_LOST, "the inspector has gone") from None
        except StationError as error:
            raise FaultError(Code.ENGINE_FAULT, first_line(error)) from error

    async def _awaited(self, answer: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Wait for an inspection; TimeoutError when nothing else that the inspector does explains how long it takes."""
        task = asyncio.get_running_loop().create_task(answer)
        try:
            while not (await asyncio.wait({task}, timeout=self._patience))[0]:
                if self._crew.was_judge_idle(self._patience):
                    raise TimeoutError
            return task.result()
        finally:
            task.cancel()


async def _outcome(items: Any, progress: Progress) -> Outcome:
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Outcome):
                return item
            progress(item)
    raise StationError("the inspector said nothing", "an outcome", "see its log")


def _camera_code(number: int) -> Code:
    try:
        return Code(-number)
    except ValueError:
        return Code.INTERNAL
