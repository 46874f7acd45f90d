"""A station in another process: `StationApi` over the hub's socket, connected again by itself after the hub restarted.

Knows no state: a call while the hub is away raises `wire.LostError`, and the caller decides whether to try again.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from judo_edge.station.results import (
    Job,
    JobRequest,
    Recipe,
    ReferenceInfo,
    Result,
    ResultQuery,
    StationEvent,
    Status,
)
from judo_edge.station.wire import Handlers, Peer, connect


class StationClient:
    """Speaks to the hub. Use `async with`, or `close` at the end."""

    def __init__(self, socket: Path, role: str, name: str = "", handlers: Handlers | None = None) -> None:
        """Name the hub's socket and who we are; `handlers` are what the hub may call here."""
        self._socket, self._hello = socket, {"role": role, "name": name or role}
        self._handlers = handlers or {}
        self._peer: Peer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> StationClient:
        """Return itself; the connection is made at the first call."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up."""
        await self.close()

    async def peer(self) -> Peer:
        """Return the open connection, made now if there is none; LostError when the hub is away."""
        async with self._lock:
            if self._peer is None or not self._peer.is_open:
                peer, self._reading = await connect(self._socket, self._handlers)
                await peer.call("hello", **self._hello)
                self._peer = peer
            return self._peer

    async def close(self) -> None:
        """Hang up."""
        if self._peer is not None:
            await self._peer.close()
        if self._reading is not None:
            self._reading.cancel()

    async def call(self, method: str, **params: Any) -> Any:
        """Ask the hub for what is not part of `StationApi`."""
        return await (await self.peer()).call(method, **params)

    async def status(self) -> Status:
        """See StationApi."""
        return Status.model_validate(await self.call("status"))

    async def halt(self, cause: int, description: str) -> None:
        """See StationApi."""
        await self.call("halt", cause=cause, description=description)

    async def reset(self, cause: int, description: str) -> None:
        """See StationApi."""
        await self.call("reset", cause=cause, description=description)

    async def select_automatic(self) -> None:
        """See StationApi."""
        await self.call("select_automatic")

    async def confirm_all(self, comment: str, user: str = "") -> None:
        """See StationApi."""
        await self.call("confirm_all", comment=comment, user=user)

    async def simulate(self, is_on: bool) -> None:
        """See StationApi."""
        await self.call("simulate", is_on=is_on)

    async def recipes(self) -> tuple[Recipe, ...]:
        """See StationApi."""
        return tuple(Recipe.model_validate(one) for one in await self.call("recipes"))

    async def prepare(self, external_id: str, internal_id: str = "") -> Recipe:
        """See StationApi."""
        return Recipe.model_validate(await self.call("prepare", external_id=external_id, internal_id=internal_id))

    async def unprepare(self, external_id: str) -> Recipe:
        """See StationApi."""
        return Recipe.model_validate(await self.call("unprepare", external_id=external_id))

    async def start_single(self, request: JobRequest) -> Job:
        """See StationApi."""
        return Job.model_validate(await self.call("start_single", request=_record(request)))

    async def start_continuous(self, request: JobRequest) -> Job:
        """See StationApi."""
        return Job.model_validate(await self.call("start_continuous", request=_record(request)))

    async def trigger(self, request: JobRequest) -> Job:
        """See StationApi."""
        return Job.model_validate(await self.call("trigger", request=_record(request)))

    async def stop(self, cause: int, description: str) -> None:
        """See StationApi."""
        await self.call("stop", cause=cause, description=description)

    async def abort(self, cause: int, description: str) -> None:
        """See StationApi."""
        await self.call("abort", cause=cause, description=description)

    async def results(self, query: ResultQuery) -> tuple[Result, ...]:
        """See StationApi."""
        return _results(await self.call("results", query=_record(query)))

    async def result(self, result_id: str) -> Result | None:
        """See StationApi."""
        found = await self.call("result", result_id=result_id)
        return None if found is None else Result.model_validate(found)

    async def acknowledge(self, sink: str, result_ids: Sequence[str]) -> tuple[bool, ...]:
        """See StationApi."""
        return tuple(await self.call("acknowledge", sink=sink, result_ids=list(result_ids)))

    async def unacknowledged(self, sink: str, limit: int = 100) -> tuple[Result, ...]:
        """See StationApi."""
        return _results(await self.call("unacknowledged", sink=sink, limit=limit))

    async def archive_file(self, result_id: str, kind: str) -> Path | None:
        """See StationApi."""
        return _path(await self.call("archive_file", result_id=result_id, kind=kind))

    async def events(self) -> AsyncIterator[StationEvent]:
        """See StationApi."""
        async for event in (await self.peer()).stream("events"):
            yield StationEvent.model_validate(event)

    async def review(self, result_id: str, decision: str, user: str, note: str = "") -> Result:
        """See StationApi."""
        params = {"result_id": result_id, "decision": decision, "user": user, "note": note}
        return Result.model_validate(await self.call("review", **params))

    async def references(self, part: str) -> tuple[ReferenceInfo, ...]:
        """See StationApi."""
        return tuple(ReferenceInfo.model_validate(one) for one in await self.call("references", part=part))

    async def enroll(self, part: str, photo: Path, source: str, user: str) -> ReferenceInfo:
        """See StationApi."""
        params = {"part": part, "photo": str(photo), "source": source, "user": user}
        return ReferenceInfo.model_validate(await self.call("enroll", **params))

    async def retire(self, part: str, reference_id: str, user: str) -> ReferenceInfo:
        """See StationApi."""
        params = {"part": part, "reference_id": reference_id, "user": user}
        return ReferenceInfo.model_validate(await self.call("retire", **params))

    async def reference_file(self, part: str, reference_id: str) -> Path | None:
        """See StationApi."""
        return _path(await self.call("reference_file", part=part, reference_id=reference_id))

    async def ask(self, result_id: str, question: str) -> AsyncIterator[str]:
        """See StationApi."""
        async for piece in (await self.peer()).stream("ask", result_id=result_id, question=question):
            yield str(piece)

    async def challenge(self, external_id: str) -> None:
        """See StationApi."""
        await self.call("challenge", external_id=external_id)

    async def live(self, camera: str) -> bytes:
        """See StationApi."""
        return base64.b64decode(await self.call("live", camera=camera))


def _record(model: JobRequest | ResultQuery) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_defaults=True)


def _results(found: list[Any]) -> tuple[Result, ...]:
    return tuple(Result.model_validate(one) for one in found)


def _path(found: str | None) -> Path | None:
    return None if found is None else Path(found)
