"""Events of the station as OPC UA events with typed fields.

asyncua takes the types of an event's fields from the empty values of its type, which makes them Null; so the fields
are given here with their types. Every event is sent from the VisionSystem object and from the Server object with one
EventId, because asyncua does not pass events up. A client's OfType filter matches the very type only.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from datetime import datetime, timezone
from typing import Any

from asyncua import ua
from asyncua.common.event_objects import BaseEvent

from judo_edge.station.opcua.basetypes import VISION
from judo_edge.station.opcua.records import time_from_text
from judo_edge.station.opcua.space import Space
from judo_edge.station.opcua.types import ResultDataType

JOB_STARTED, STATE_CHANGED, ERROR, ERROR_RESOLVED = 1013, 1018, 1019, 1020
RECIPE_PREPARED, READY, RESULT_READY, ACQUISITION_DONE = 1022, 1023, 1024, 1025
WARNING_CONDITION, ERROR_CONDITION, PERSISTENT_CONDITION = 1034, 1035, 1036
DIAGNOSTIC_INFO, INFORMATION = 1037, 1038
"""Numbers of the event types in OPC 40100-1's namespace."""

_V = ua.VariantType
RESULT_TYPES = {
    "IsPartial": _V.Boolean,
    "IsSimulated": _V.Boolean,
    "ResultState": _V.Int32,
    "CreationTime": _V.DateTime,
    "ResultContent": _V.Variant,
}
"""Of ResultReadyEventType's fields; the others are structures."""
_RESULT_SKIPPED = frozenset({"Encoding", "HasTransferableDataOnFile"})
Fields = Mapping[str, tuple[Any, ua.VariantType]]


class Emitter:
    """Sends events to whoever subscribed."""

    def __init__(self, space: Space) -> None:
        """Take the space; `prepare` comes before the first event."""
        self._space, self._lock = space, asyncio.Lock()
        self._service = space.server.iserver.isession.subscription_service

    async def prepare(self) -> None:
        """Let clients subscribe at the VisionSystem object and at the Server object."""
        for node in (self._space.system, self._space.server.nodes.server):
            await node.set_event_notifier([ua.EventNotifier.SubscribeToEvents])

    async def emit(
        self, kind: int, message: str, fields: Fields, severity: int = 100, at: str = "", event: BaseEvent | None = None
    ) -> BaseEvent:
        """Send an event of a type of OPC 40100-1; `at` is when it happened, by default now."""
        event = event or BaseEvent()
        now = datetime.now(timezone.utc)
        event.EventType = ua.NodeId(kind, VISION)
        event.EventId = uuid.uuid4().bytes
        event.SourceNode, event.SourceName = self._space.system.nodeid, "VisionSystem"
        event.Time, event.ReceiveTime = time_from_text(at) if at else now, now
        event.LocalTime = ua.TimeZoneDataType()
        event.Message, event.Severity = ua.LocalizedText(message), severity
        for name, (value, variant) in fields.items():
            event.add_property(name, value, variant)
        await self.send(event)
        return event

    async def send(self, event: BaseEvent, subscription: int | None = None) -> None:
        """Send an event, or send it again, to all subscriptions or to one."""
        async with self._lock:
            for node in (self._space.system, self._space.server.nodes.server):
                event.emitting_node = node.nodeid
                await self._service.trigger_event(event, subscription_id=subscription)


def fields_of_result(record: ResultDataType) -> Fields:
    """Return the fields of ResultReadyEventType."""
    names = [one.name for one in dataclass_fields(record) if one.name not in _RESULT_SKIPPED]
    return {name: (getattr(record, name), RESULT_TYPES.get(name, _V.ExtensionObject)) for name in names}


def structures(**values: Any) -> Fields:
    """Return fields that are structures."""
    return {name: (value, _V.ExtensionObject) for name, value in values.items()}
