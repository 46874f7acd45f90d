"""What people do with a station's results and references: read, review, ask, enrol, retire."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from judo_edge.core import Decision
from judo_edge.errors import InputError, JudoEdgeError, StationError, first_line
from judo_edge.station.hub.base import StationBase
from judo_edge.station.ledger import reading, writing
from judo_edge.station.results import EventKind, ReferenceInfo, Result, ResultQuery, Severity

NO_RESULT, NO_PHOTO = -14, -15
"""Numbers of the StationErrors for a result that is not known, or whose photo is not kept."""


class People(StationBase):
    """The part of `StationApi` that no PLC uses, over ledger and inspector."""

    # -- results -------------------------------------------------------------------------------------------------------
    async def results(self, query: ResultQuery) -> tuple[Result, ...]:
        """See StationApi."""
        return await self.ledger.read(reading.results, query)

    async def result(self, result_id: str) -> Result | None:
        """See StationApi."""
        return await self.ledger.read(reading.result, result_id)

    async def acknowledge(self, sink: str, result_ids: Sequence[str]) -> tuple[bool, ...]:
        """See StationApi."""
        return await self.ledger.write(writing.acknowledge, sink, tuple(result_ids))

    async def unacknowledged(self, sink: str, limit: int = 100) -> tuple[Result, ...]:
        """See StationApi."""
        return await self.ledger.read(reading.unacknowledged, sink, max(1, min(limit, 1000)))

    async def archive_file(self, result_id: str, kind: str) -> Path | None:
        """See StationApi."""
        if kind not in ("photo", "mask", "reference"):
            raise InputError(f"kind {kind!r}", "one of photo, mask, reference")
        found = await self.result(result_id)
        if found is None:
            return None
        if kind == "reference":
            return await self.reference_file(found.part, found.reference_id) if found.reference_id else None
        name = found.photo if kind == "photo" else found.mask_file
        return self.config.archive / name if name else None

    # -- people --------------------------------------------------------------------------------------------------------
    async def review(self, result_id: str, decision: str, user: str, note: str = "") -> Result:
        """See StationApi."""
        if decision not in ("", Decision.OK.value, Decision.NOK.value):
            raise InputError(f"decision {decision!r}", "OK, NOK or nothing")
        if not await self.ledger.write(writing.add_review, result_id, decision, user, note):
            raise _no_result(result_id)
        data = {"result_id": result_id, "decision": decision, "user": user, "note": note}
        self.broadcaster.publish(EventKind.REVIEW, data)
        self.audit(user, "review", data)
        return await self._stored(result_id)

    async def references(self, part: str) -> tuple[ReferenceInfo, ...]:
        """See StationApi."""
        return await self.crew.needed_judge().references(part)

    async def enroll(self, part: str, photo: Path, source: str, user: str) -> ReferenceInfo:
        """See StationApi."""
        found = await self.crew.needed_judge().enroll(part, str(photo), source, user)
        await self._references_changed(found, "enrolled", user)
        return found

    async def retire(self, part: str, reference_id: str, user: str) -> ReferenceInfo:
        """See StationApi."""
        judge = self.crew.needed_judge()
        self.changing[part] += 1  # until the new version is ready the old one, with that reference, still judges
        try:
            found = await judge.retire(part, reference_id, user)
            await self._references_changed(found, "retired", user)
        finally:
            self.changing -= Counter([part])
        return found

    async def reference_file(self, part: str, reference_id: str) -> Path | None:
        """See StationApi."""
        return await self.crew.needed_judge().reference_file(part, reference_id)

    async def ask(self, result_id: str, question: str) -> AsyncIterator[str]:
        """See StationApi."""
        found = await self._stored(result_id)
        if not found.photo:
            raise StationError(f"no photo of result {result_id} is kept", "a kept photo", "", NO_PHOTO)
        photo = self.config.archive / found.photo
        with self.crew.judge_is_busy():
            async for piece in self.crew.needed_judge().ask(str(photo), found.internal_recipe_id, question):
                yield piece

    # -- helpers -------------------------------------------------------------------------------------------------------
    async def _stored(self, result_id: str) -> Result:
        found = await self.result(result_id)
        if found is None:
            raise _no_result(result_id)
        return found

    async def _references_changed(self, info: ReferenceInfo, change: str, user: str) -> None:
        data: dict[str, Any] = {
            "part": info.part, "reference_id": info.reference_id, "change": change, "user": user
        }  # fmt: skip
        self.audit(user, change, data)
        self.broadcaster.publish(EventKind.REFERENCES, data)
        for external_id in list(self.recipe_book.wanted):
            if self.recipe_book.tables[external_id].part == info.part:
                await self._prepared_anew(external_id, is_outdated=change == "retired")

    async def _prepared_anew(self, external_id: str, is_outdated: bool) -> None:
        """Prepare the newest version; where that fails, one that a person took a reference from judges no more."""
        before = {one.external_id: one for one in self.recipe_book.prepared()}.get(external_id)
        if is_outdated:
            await self.recipe_book.want_newest(external_id)
        try:
            fresh = await self.prepare_now(external_id, "")
        except JudoEdgeError as error:
            if is_outdated and before:
                self.recipe_book.drop(external_id)
                self.put_away(before)
            self.tell(f"recipe.{external_id}", Severity.ERROR, first_line(error))
            raise
        await self.recipe_book.choose(external_id, "", is_last=False)
        self.broadcaster.publish(EventKind.RECIPE_PREPARED, fresh.model_dump(mode="json"))


def _no_result(result_id: str) -> StationError:
    return StationError(f"result {result_id!r} is not known", "the id of a stored result", "", NO_RESULT)
