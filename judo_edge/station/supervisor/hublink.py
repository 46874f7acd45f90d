"""The supervisor's line to the hub: what the hub says of itself, what it is told of the processes, what it asks for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from judo_edge.errors import JudoEdgeError
from judo_edge.station.client import StationClient
from judo_edge.station.results import ProcessHealth, Status
from judo_edge.station.workers import SOCKET_NAME

ANSWER_SECONDS = 5.0
"""After so long without an answer the hub is asked again over a new connection."""


class HubLink:
    """Asks and tells; every fault on the way is an answer of None or False, for the supervisor goes on regardless."""

    def __init__(self, run_folder: Path, restart: Callable[[str], Awaitable[None]]) -> None:
        """Name the run folder and what the hub may ask: `restart(name)`."""
        self._socket, self._restart = run_folder / SOCKET_NAME, restart
        self._client = self._new_client()

    async def status(self) -> Status | None:
        """Return what the hub says of the station; None when it does not answer."""
        with contextlib.suppress(JudoEdgeError, ValidationError, OSError, asyncio.TimeoutError):
            return await asyncio.wait_for(self._client.status(), ANSWER_SECONDS)
        await self._begin_anew()
        return None

    async def tell(self, processes: Sequence[ProcessHealth]) -> bool:
        """Tell the hub how the processes are; False when it did not take it."""
        records = [one.model_dump(mode="json") for one in processes]
        with contextlib.suppress(JudoEdgeError, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._client.call("processes", processes=records), ANSWER_SECONDS)
            return True
        return False

    async def tell_stop(self) -> None:
        """Tell the hub that all processes are about to end."""
        with contextlib.suppress(JudoEdgeError, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._client.call("stopping"), 1.0)

    async def close(self) -> None:
        """Hang up; a hub that does not listen is not waited for."""
        with contextlib.suppress(JudoEdgeError, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._client.close(), 1.0)

    def _new_client(self) -> StationClient:
        return StationClient(self._socket, "supervisor", handlers={"restart": self._restarted})

    async def _restarted(self, name: str) -> None:
        await self._restart(name)

    async def _begin_anew(self) -> None:
        await self.close()
        self._client = self._new_client()
