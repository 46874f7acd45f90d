"""A camera as the hub sees it: answers `grab` and `live`, offers the parts that it saw, tells how it is."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from judo_edge.errors import CameraError, CameraFault, JudoEdgeError, StationError, first_line
from judo_edge.runtime.photos import jpeg_from_image
from judo_edge.runtime.sources.camera import Grabbed
from judo_edge.station.camera.reader import Delivered, Reader, ReconnectingCamera
from judo_edge.station.camera.spool import Spool
from judo_edge.station.client import StationClient
from judo_edge.station.results import Code
from judo_edge.station.states import State
from judo_edge.station.wire import Handlers, LostError
from judo_edge.station.workers import Spooled

CODES = {
    CameraFault.UNPLUGGED: Code.CAMERA_UNPLUGGED,
    CameraFault.TIMEOUT: Code.CAMERA_TIMEOUT,
    CameraFault.FROZEN: Code.CAMERA_FROZEN,
    CameraFault.STALE: Code.CAMERA_STALE,
    CameraFault.INCOMPLETE: Code.FRAME_DROPPED,
    CameraFault.UNREADABLE: Code.PHOTO_UNREADABLE,
}
STUCK_SECONDS = 10.0
"""By so much a call into the driver may overrun its limit before the process ends itself."""
AGAIN_SECONDS = 0.2
REFUSED_SECONDS = 30.0
"""So long a frame is offered to a hub that answers with an error."""
_LIVE_PIXELS = 1280
_LIVE_AGE = 0.5
_UNTOLD = 16
_TAKES_PARTS = (State.READY, State.CONTINUOUS_EXECUTION)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    """A grab of the hub that waits for a camera which is triggered from outside."""

    after_ns: int
    answer: asyncio.Future[Grabbed]


class CameraService:
    """One camera at the hub; `run` ends with an error when the camera has to be started in a new process."""

    def __init__(
        self,
        camera: ReconnectingCamera,
        name: str,
        spool: Spool,
        is_pushing: bool,
        is_live: bool,
        max_waiting: int | None = None,
    ) -> None:
        """`is_pushing`: frames come by themselves; `is_live`: a frame may be grabbed just to be looked at.

        With `max_waiting` a part can wait, such as a file: it is offered when the station is ready with fewer parts.
        """
        self._max_waiting = max_waiting
        self.name, self._spool, self._is_live = name, spool, is_live
        self._reader = Reader(camera, self._deliver if is_pushing else None, self._report)
        self._is_pushing = is_pushing
        self._delivered: asyncio.Queue[Delivered] = asyncio.Queue(1)
        self._waiting: list[_Waiting] = []
        self._newest: Grabbed | None = None
        self._state: tuple[int, str] = (0, "")
        self._untold: deque[tuple[int, str]] = deque([self._state], maxlen=_UNTOLD)
        self._state_changed = asyncio.Event()
        self._missed = 0

    @property
    def handlers(self) -> Handlers:
        """Return what the hub may call."""
        return {"grab": self.grab, "live": self.live}

    async def run(self, client: StationClient) -> None:
        """Serve the hub until cancelled; StationError when the camera's thread is caught or has ended."""
        self._loop = asyncio.get_running_loop()
        self._reader.start()
        tasks = [self._watch_reader(), self._tell_state(client)]
        if self._is_pushing:
            tasks.append(self._offer_frames(client))
        running = [asyncio.create_task(task) for task in tasks]
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await asyncio.to_thread(self._reader.stop)

    async def grab(self, job_id: str, timeout: float, after_ns: int) -> dict[str, Any]:
        """Return a photo taken after `after_ns` as a Spooled record; StationError with minus the fault's code."""
        try:
            grabbed = await (self._next_pushed if self._is_pushing else self._grabbed)(timeout, after_ns)
            self._newest = grabbed
            spooled = await asyncio.to_thread(self._spool.put, grabbed)
        except CameraError as error:
            raise _refused(error, CODES[error.fault]) from error
        except JudoEdgeError as error:
            raise _refused(error, Code.INTERNAL) from error
        return spooled.model_dump(mode="json")

    async def live(self) -> str:
        """Return the newest photo as JPEG in base64; empty when there is none."""
        if self._is_live and (self._newest is None or _age(self._newest) > _LIVE_AGE):
            with contextlib.suppress(CameraError):
                self._newest = await self._grabbed(1.0, 0)
        if self._newest is None:
            return ""
        jpeg = await asyncio.to_thread(jpeg_from_image, self._newest.image, _LIVE_PIXELS)
        return base64.b64encode(jpeg).decode()

    async def _grabbed(self, timeout: float, after_ns: int) -> Grabbed:
        try:
            asked = asyncio.wrap_future(self._reader.grab(timeout))
            grabbed = await asyncio.wait_for(asked, timeout + STUCK_SECONDS)
        except asyncio.TimeoutError as error:
            raise CameraError(CameraFault.TIMEOUT, f"{self.name} does not answer") from error
        if grabbed.captured_ns < after_ns:
            raise CameraError(CameraFault.STALE, "the photo was taken before the trigger", "one from after it")
        return grabbed

    async def _next_pushed(self, timeout: float, after_ns: int) -> Grabbed:
        """Wait for the next frame of a camera that is triggered from outside."""
        if self._state[0]:
            raise CameraError(CameraFault.UNPLUGGED, self._state[1])
        waiting = _Waiting(after_ns, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            return await asyncio.wait_for(waiting.answer, timeout)
        except asyncio.TimeoutError as error:
            raise CameraError(CameraFault.TIMEOUT, f"no frame from {self.name} within {timeout:g} s") from error
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    # -- what the camera's thread calls --------------------------------------------------------------------------------
    def _deliver(self, delivered: Delivered) -> None:
        asyncio.run_coroutine_threadsafe(self._delivered.put(delivered), self._loop).result()

    def _report(self, error: CameraError | None) -> None:
        state = (0, "") if error is None else (int(CODES[error.fault]), str(error))
        if state[0] != self._state[0]:
            self._state = state
            self._untold.append(state)
            self._loop.call_soon_threadsafe(self._state_changed.set)

    # -- tasks ---------------------------------------------------------------------------------------------------------
    async def _watch_reader(self) -> None:
        """End when the thread ended or is caught in the driver: only a new process helps."""
        while True:
            if (stuck := self._reader.stuck_seconds()) > STUCK_SECONDS:
                found = f"camera {self.name} is caught in its driver, {stuck:.0f} s over its limit"
                raise StationError(found, "a driver that returns", "this process ends, to begin with a fresh one")
            if not self._reader.is_running:
                error = self._reader.error
                raise error if isinstance(error, JudoEdgeError) else StationError(f"camera {self.name}: {error!r}")
            await asyncio.sleep(AGAIN_SECONDS)

    async def _tell_state(self, client: StationClient) -> None:
        """Keep the line to the hub open; tell it how the camera is, on every new line and at every change, in order."""
        told_to: object = None
        while True:
            with contextlib.suppress(JudoEdgeError, OSError):
                peer = await client.peer()
                if peer is not told_to and not self._untold:
                    self._untold.append(self._state)
                while self._untold:
                    code, text = self._untold[0]
                    await peer.call("camera_state", camera=self.name, code=code, text=text)
                    told_to = peer
                    self._untold.popleft()
                    _log.log(logging.WARNING if code else logging.INFO, "%s", text or "the camera works")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._state_changed.wait(), AGAIN_SECONDS)
            self._state_changed.clear()

    async def _offer_frames(self, client: StationClient) -> None:
        while True:
            delivered = await self._delivered.get()
            if isinstance(delivered, Grabbed):
                self._newest = delivered
            if await self._is_answer(client, delivered):
                continue
            spooled = await self._spooled(delivered)
            is_taken = await self._offer(client, delivered, spooled)
            if is_taken and spooled.path:
                self._reader.acknowledge(spooled.path)

    async def _is_answer(self, client: StationClient, delivered: Delivered) -> bool:
        """Give a frame to a grab that waits for it; where frames can wait, hold it back until a part is welcome."""
        while True:
            if isinstance(delivered, Grabbed) and self._answer_waiting(delivered):
                return True
            if self._max_waiting is None or await self._is_welcome(client, self._max_waiting):
                return False
            await asyncio.sleep(AGAIN_SECONDS)

    async def _is_welcome(self, client: StationClient, max_waiting: int) -> bool:
        with contextlib.suppress(JudoEdgeError, ValidationError, OSError):
            status = await client.status()
            return status.state in _TAKES_PARTS and status.num_waiting < max_waiting
        return False

    def _answer_waiting(self, grabbed: Grabbed) -> bool:
        for waiting in self._waiting:
            if grabbed.captured_ns >= waiting.after_ns and not waiting.answer.done():
                waiting.answer.set_result(grabbed)
                return True
        return False

    async def _spooled(self, delivered: Delivered) -> Spooled:
        """Put a part on its way; where that fails, the part is told of without its pixels."""
        if isinstance(delivered, CameraError):
            return await asyncio.to_thread(self._spool.put_fault, delivered)
        try:
            return await asyncio.to_thread(self._spool.put, delivered)
        except JudoEdgeError as error:
            _log.error("%s", error)
            fault = CameraError(CameraFault.UNREADABLE, first_line(error), "", "", delivered.part_id, delivered.path)
            return await asyncio.to_thread(self._spool.put_fault, fault)

    async def _offer(self, client: StationClient, delivered: Delivered, spooled: Spooled) -> bool:
        """Offer a part until the hub has answered; False when it kept refusing, which the next part then tells."""
        missed = self._missed + (delivered.missed if isinstance(delivered, Grabbed) else 0)
        record = spooled.model_dump(mode="json")
        since: float | None = None
        while True:
            try:
                await client.call("frame", camera=self.name, spooled=record, missed=missed)
            except (LostError, OSError):
                since = None
            except JudoEdgeError as error:
                since = since or time.monotonic()
                if time.monotonic() - since > REFUSED_SECONDS:
                    _log.error("the hub refuses a part: %s", error)
                    self._missed = missed + 1
                    self._spool.remove(spooled)
                    return False
            else:
                self._missed = 0
                return True
            await asyncio.sleep(AGAIN_SECONDS)
            if not self._spool.has(spooled) and isinstance(delivered, Grabbed):
                await self._spooled(delivered)


def _refused(error: JudoEdgeError, code: Code) -> StationError:
    return StationError(error.found, error.wanted, error.action, number=-int(code))


def _age(grabbed: Grabbed) -> float:
    return (time.monotonic_ns() - grabbed.captured_ns) / 1e9
