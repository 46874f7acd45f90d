"""A PLC's OPC UA client in a process of its own: triggers, hears results, fetches what it missed, acknowledges all.

`python -m tests.chaos.plc SETTINGS.json` with url, user, password, key, certificate, count, pace, seed and journal. The
journal has one JSON line for what happened: `trigger` (its answer: accepted, refused or unknown), `result`, `taken`.
When stdin ends it triggers no more, finishes once nothing is unacknowledged, and exits with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asyncua import Client, Node, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from judo_edge.station.opcua import types
from judo_edge.station.opcua.types import register_types
from tests.chaos.plan import SURELY_REFUSED, Clock
from tests.opcua_clients import URI

_TAGS, _MACHINERY, _VISION = "ns=4;s=Tags.Methods", "ns=4;s=MachineryResults", "ns=4;s=VisionSystem.ResultManagement"
_SYSTEM, _RESULT_READY = "ns=4;s=VisionSystem", "ns=2;i=1024"
_CALL, _CONNECT = 4.0, 20.0
"""Seconds that the PLC waits for an answer, and for a connection."""
_POLL, _RETRY, _BATCH = 1.0, 0.2, 200
_LOST = (ua.UaError, OSError, asyncio.TimeoutError, EOFError, AttributeError, RuntimeError)
"""What asyncua raises when its connection goes, depending on when."""


class Plc:
    """One client that connects again for as long as it takes."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Take the settings; nothing is connected yet."""
        self._settings, self._clock = settings, Clock(settings["pace"], random.Random(settings["seed"]))
        self._journal = Path(settings["journal"])
        self._num_triggers, self._taken = 0, set[str]()
        self._heard: dict[str, str] = {}
        self._unknown: list[str] = []
        self._is_leaving = asyncio.Event()

    async def run(self) -> None:
        """Work until everything is done."""
        leaving = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        leaving.add_done_callback(lambda _: self._is_leaving.set())
        while not await self._connected():
            await asyncio.sleep(_RETRY)

    def event_notification(self, event: Any) -> None:
        """Note a result that an event told; asyncua calls this by name."""
        self._received(event.ResultId.Id, event.JobId.Id, event.PartId.Id, event.ResultContent[0].Value, "event")

    def _received(self, result_id: str, job_id: str, part_id: str, verdict: str, way: str) -> None:
        self._heard[result_id] = job_id
        self._note("result", result_id=result_id, job_id=job_id, part_id=part_id, verdict=verdict, way=way)

    async def _connected(self) -> bool:
        """Use one connection until it breaks, or until everything is done: then True."""
        client = self._client = Client(self._settings["url"], timeout=_CALL)
        client.application_uri = URI
        client.set_user(self._settings["user"])
        client.set_password(self._settings["password"])
        try:
            await asyncio.wait_for(self._greeted(client), _CONNECT)
            self._note("connected")
            await self._used()
            return True
        except _LOST as error:
            self._note("lost", why=f"{type(error).__name__}: {error}"[:200])
            return False
        finally:
            with contextlib.suppress(*_LOST, asyncio.CancelledError):
                await asyncio.wait_for(client.disconnect(), 2.0)

    async def _greeted(self, client: Client) -> None:
        files = self._settings["certificate"], self._settings["key"]
        await client.set_security(SecurityPolicyBasic256Sha256, *files)
        await client.connect()
        register_types()
        subscription = await client.create_subscription(50, self)
        await subscription.subscribe_events(client.get_node(_SYSTEM), client.get_node(_RESULT_READY), queuesize=1000)

    async def _used(self) -> None:
        """Trigger and poll side by side; what fails first ends both."""
        tasks = [asyncio.create_task(one) for one in (self._triggering(), self._polling())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- triggers ------------------------------------------------------------------------------------------------------
    async def _triggering(self) -> None:
        while self._num_triggers < self._settings["count"] and not self._is_leaving.is_set():
            await self._trigger(f"plc{self._num_triggers}")
            await self._clock.next()

    async def _trigger(self, part_id: str) -> None:
        """Trigger a part once: without an answer a PLC does not know, and triggers it no second time."""
        self._num_triggers += 1
        at = time.monotonic()
        try:
            accepted, job_id, error = await self._call(_TAGS, "Trigger", part_id, "")
        except BaseException:
            self._unknown.append(part_id)
            self._note("trigger", part_id=part_id, answer="unknown", at=at)
            raise
        answer = "accepted" if accepted else "refused" if error > SURELY_REFUSED else "unknown"
        if answer == "unknown":
            self._unknown.append(part_id)
        self._note("trigger", part_id=part_id, answer=answer, job_id=job_id, error=error, at=at)

    # -- results -------------------------------------------------------------------------------------------------------
    async def _polling(self) -> None:
        """Acknowledge what came, fetch what did not; the end is when a leaving PLC has nothing left."""
        while True:
            is_leaving = self._is_leaving.is_set()
            error, ids = await self._ids()
            if error == 0 and ids:
                await self._take(ids)
            elif error == 0 and is_leaving and not await self._look_up():
                return
            await asyncio.sleep(_RETRY if is_leaving or len(ids) >= _BATCH else _POLL)

    async def _ids(self) -> tuple[int, list[str]]:
        arguments = types_of_id_list()
        _, ids, error = await self._call(_MACHINERY, "GetResultIdListFiltered", *arguments)
        return error, list(ids or ())

    async def _take(self, ids: Iterable[str]) -> None:
        """Fetch the results that no event brought, then acknowledge them all."""
        mine = [result_id for result_id in ids if result_id in self._heard or await self._fetch(result_id)]
        if not mine:
            return
        for result_id in mine:  # an answer that is lost changes nothing: the station says what is left
            self._note("taken", result_id=result_id)
        errors, error = await self._call(_MACHINERY, "AcknowledgeResults", ua.Variant(mine, ua.VariantType.String))
        if error == 0:
            for result_id, one in zip(mine, errors, strict=True):
                if one:
                    self._note("unknown-result", result_id=result_id, error=one)
                self._heard.pop(result_id, None)

    async def _fetch(self, result_id: str) -> bool:
        timeout = ua.Variant(0, ua.VariantType.Int32)
        _, record, error = await self._call(_MACHINERY, "GetResultById", result_id, timeout)
        if error:
            return False
        meta = record.ResultMetaData
        self._received(meta.ResultId, meta.JobId, meta.PartId, record.ResultContent[0].Value, "poll")
        return True

    async def _look_up(self) -> bool:
        """Ask by part id what became of triggers without an answer; return whether some are still open."""
        while self._unknown:
            error, records = await self._of_part(self._unknown[-1])
            if error:
                return True
            found = [record.JobId.Id for record in records]
            self._note("looked-up", part_id=self._unknown.pop(), job_ids=found)
        return False

    async def _of_part(self, part_id: str) -> tuple[int, list[Any]]:
        whole, moment = ua.VariantType.UInt32, ua.Variant(0, ua.VariantType.Int32)
        arguments = (
            moment,
            types.MeasIdDataType(),
            types.PartIdDataType(Id=ua.String(part_id)),
            types.RecipeIdExternalDataType(),
            types.RecipeIdInternalDataType(),
            types.ConfigurationIdDataType(),
            types.ConfigurationIdDataType(),
            types.ProductIdDataType(),
            types.JobIdDataType(),
            ua.Variant(0, whole),
            ua.Variant(0, whole),
            moment,
        )
        _, _, _, records, error = await self._call(_VISION, "GetResultListFiltered", *arguments)
        return error, list(records or ())

    async def _call(self, parent: str, name: str, *arguments: Any) -> Any:
        node: Node = self._client.get_node(parent)
        return await asyncio.wait_for(node.call_method(self._client.get_node(f"{parent}.{name}"), *arguments), _CALL)

    def _note(self, kind: str, **what: Any) -> None:
        with self._journal.open("a") as stream:
            stream.write(json.dumps({"kind": kind, **what}) + "\n")


def types_of_id_list() -> tuple[Any, ...]:
    """Return the arguments of GetResultIdListFiltered: no filter, no order, at most a batch."""
    order = ua.Variant([], ua.VariantType.ExtensionObject, is_array=True)
    count, timeout = ua.Variant(_BATCH, ua.VariantType.UInt32), ua.Variant(0, ua.VariantType.Int32)
    return ua.ContentFilter(), order, count, timeout


if __name__ == "__main__":
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    asyncio.run(Plc(json.loads(Path(sys.argv[1]).read_text())).run())
