"""Cameras and the inspector as the hub sees them, and both over a connection; see `station.workers` for the words."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

from judo_edge.core import Decision
from judo_edge.station.results import Recipe, ReferenceInfo
from judo_edge.station.wire import Peer
from judo_edge.station.workers import Kept, Outcome, Spooled


class Eye(Protocol):
    """A camera."""

    async def grab(self, job_id: str, timeout: float, after_ns: int) -> Spooled:
        """Take a photo after a monotonic time; StationError whose number is minus the `Code`."""
        ...

    async def live(self) -> bytes:
        """Return the newest photo as JPEG, empty when there is none."""
        ...

    async def close(self) -> None:
        """Have nothing to do with it any more; what runs on it fails."""
        ...


class Judge(Protocol):
    """An inspector."""

    async def prepare(self, external_id: str, internal_id: str) -> Recipe:
        """Make a version of a recipe ready; an empty internal id is the newest."""
        ...

    async def unprepare(self, internal_id: str) -> None:
        """Put a version away."""
        ...

    def inspect(self, job_id: str, internal_id: str, spooled: Spooled) -> AsyncIterator[dict[str, Any] | Outcome]:
        """Yield progress as records, then the outcome."""
        ...

    async def keep(self, job_id: str, result_id: str, decision: Decision) -> Kept:
        """Write photo and mask of a frame into the archive, or nothing."""
        ...

    def ask(self, photo: str, internal_id: str, question: str) -> AsyncIterator[str]:
        """Yield the answer to a question about a photo."""
        ...

    async def enroll(self, part: str, photo: str, source: str, user: str) -> ReferenceInfo:
        """Enrol a photo as a good part."""
        ...

    async def retire(self, part: str, reference_id: str, user: str) -> ReferenceInfo:
        """Take a reference out of use."""
        ...

    async def references(self, part: str) -> tuple[ReferenceInfo, ...]:
        """Return the references of a part."""
        ...

    async def reference_file(self, part: str, reference_id: str) -> Path | None:
        """Return the path of a reference's photo."""
        ...

    async def close(self) -> None:
        """Have nothing to do with it any more; what runs on it fails."""
        ...


class PeerEye:
    """A camera's process."""

    def __init__(self, peer: Peer) -> None:
        """Take the open connection."""
        self._peer = peer

    async def grab(self, job_id: str, timeout: float, after_ns: int) -> Spooled:
        """See Eye."""
        return Spooled.model_validate(await self._peer.call("grab", job_id=job_id, timeout=timeout, after_ns=after_ns))

    async def live(self) -> bytes:
        """See Eye."""
        return base64.b64decode(await self._peer.call("live"))

    async def close(self) -> None:
        """See Eye."""
        await self._peer.close()


class PeerJudge:
    """The inspector's process."""

    def __init__(self, peer: Peer) -> None:
        """Take the open connection."""
        self._peer = peer

    async def prepare(self, external_id: str, internal_id: str) -> Recipe:
        """See Judge."""
        params = {"external_id": external_id, "internal_id": internal_id}
        return Recipe.model_validate(await self._peer.call("prepare", **params))

    async def unprepare(self, internal_id: str) -> None:
        """See Judge."""
        await self._peer.call("unprepare", internal_id=internal_id)

    async def inspect(self, job_id: str, internal_id: str, spooled: Spooled) -> AsyncIterator[dict[str, Any] | Outcome]:
        """See Judge."""
        params = {"job_id": job_id, "internal_id": internal_id, "spooled": spooled.model_dump(mode="json")}
        async with aclosing(self._peer.stream("inspect", **params)) as items:
            async for item in items:
                yield Outcome.model_validate(item["outcome"]) if "outcome" in item else dict(item["progress"])

    async def keep(self, job_id: str, result_id: str, decision: Decision) -> Kept:
        """See Judge."""
        params = {"job_id": job_id, "result_id": result_id, "decision": decision.value}
        return Kept.model_validate(await self._peer.call("keep", **params))

    async def ask(self, photo: str, internal_id: str, question: str) -> AsyncIterator[str]:
        """See Judge."""
        params = {"photo": photo, "internal_id": internal_id, "question": question}
        async with aclosing(self._peer.stream("ask", **params)) as items:
            async for item in items:
                yield str(item)

    async def enroll(self, part: str, photo: str, source: str, user: str) -> ReferenceInfo:
        """See Judge."""
        params = {"part": part, "photo": photo, "source": source, "user": user}
        return ReferenceInfo.model_validate(await self._peer.call("enroll", **params))

    async def retire(self, part: str, reference_id: str, user: str) -> ReferenceInfo:
        """See Judge."""
        params = {"part": part, "reference_id": reference_id, "user": user}
        return ReferenceInfo.model_validate(await self._peer.call("retire", **params))

    async def references(self, part: str) -> tuple[ReferenceInfo, ...]:
        """See Judge."""
        return tuple(ReferenceInfo.model_validate(one) for one in await self._peer.call("references", part=part))

    async def reference_file(self, part: str, reference_id: str) -> Path | None:
        """See Judge."""
        found = await self._peer.call("reference_file", part=part, reference_id=reference_id)
        return None if found is None else Path(found)

    async def close(self) -> None:
        """See Judge."""
        await self._peer.close()
