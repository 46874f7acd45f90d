"""What is wrong with the station, as conditions that clients see, acknowledge and ask for again.

asyncua has no alarms and conditions: condition objects, their events, Acknowledge, Confirm and ConditionRefresh are
ours. Not offered: Enable, Disable, AddComment, branches, and acknowledging one state of a condition by its EventId
after it has changed. The station acknowledges all conditions at once, so it is told when the last one was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncua import Node, ua
from asyncua.common.event_objects import AcknowledgeableCondition, BaseEvent

from judo_edge.errors import StationError
from judo_edge.station.opcua import events
from judo_edge.station.opcua.records import time_from_text
from judo_edge.station.opcua.space import CALLER, OWN, Space, boolean, caller_name, method_from_body
from judo_edge.station.opcua.types import is_absent
from judo_edge.station.results import Condition, Severity
from judo_edge.station.users import Role

PLC = "plc"
"""Name of the condition that this server itself raises."""
_V = ua.VariantType
_ACKNOWLEDGE, _CONFIRM, _REFRESH, _REFRESH_2 = 9111, 9113, 3875, 12912
"""Methods of the base types, which clients call with the condition's node as object."""


class Conditions:
    """The folder of conditions and their events."""

    def __init__(self, space: Space, emitter: events.Emitter) -> None:
        """Take the space; `prepare` adds the folder and links the methods."""
        self._space, self._emitter = space, emitter
        self._folder: Node | None = None
        self._known: dict[str, Condition] = {}
        self._acknowledged: set[tuple[str, str]] = set()
        self._events: dict[str, AcknowledgeableCondition] = {}
        self._nodes: dict[ua.NodeId, str] = {}

    async def prepare(self) -> None:
        """Add the folder Conditions; link Acknowledge, Confirm, ConditionRefresh and ConfirmAll."""
        name = ua.QualifiedName("Conditions", OWN)
        self._folder = await self._space.system.add_folder(ua.NodeId("Conditions", OWN), name)
        server = self._space.server
        for number in (_ACKNOWLEDGE, _CONFIRM):
            server.link_method(self._space.node(ua.NodeId(number, 0)), self._acknowledge)
        refresh = method_from_body(self._refresh, Role.OPERATOR, has_error=False)
        for number in (_REFRESH, _REFRESH_2):
            server.link_method(self._space.node(ua.NodeId(number, 0)), refresh)

    async def show(self, conditions: Sequence[Condition]) -> None:
        """Show all conditions of a station; what is no longer among them is over."""
        there = {one.name: one for one in conditions}
        for name in [name for name in self._known if name not in there and name != PLC]:
            await self.changed(self._known[name].model_copy(update={"is_active": False, "is_acknowledged": True}))
        for condition in conditions:
            if self._known.get(condition.name) != condition:
                await self.changed(condition)

    async def changed(self, condition: Condition) -> None:
        """Tell of a condition that was raised, changed or is over."""
        if self._is_acknowledged(condition) and not condition.is_active:
            self._known.pop(condition.name, None)
            self._acknowledged.discard((condition.name, condition.since))
        else:
            self._known[condition.name] = condition
        node_id = await self._node_of(condition)
        event = self._events[condition.name] = AcknowledgeableCondition()
        fields = self._fields(condition, node_id)
        kind = kind_of(condition.severity)
        await self._emitter.emit(kind, condition.text, fields, int(condition.severity), event=event)

    def _is_acknowledged(self, condition: Condition) -> bool:
        return condition.is_acknowledged or (condition.name, condition.since) in self._acknowledged

    async def _node_of(self, condition: Condition) -> ua.NodeId:
        node_id = ua.NodeId(f"Conditions.{condition.name}", OWN)
        if node_id not in self._nodes and self._folder is not None:
            self._nodes[node_id] = condition.name
            node = await self._folder.add_folder(node_id, ua.QualifiedName(condition.name, OWN))
            await node.add_property(ua.NodeId(f"{node_id.Identifier}.Retain", OWN), "0:Retain", False)
            await node.add_property(ua.NodeId(f"{node_id.Identifier}.Text", OWN), f"{OWN}:Text", "")
        node = self._space.node(node_id)
        retain = condition.name in self._known
        await self._space.write(await node.get_child(["0:Retain"]), boolean(retain))
        await self._space.write(await node.get_child([f"{OWN}:Text"]), ua.Variant(condition.text, _V.String))
        return node_id

    def _fields(self, condition: Condition, node_id: ua.NodeId) -> events.Fields:
        is_acknowledged = self._is_acknowledged(condition)
        words = ua.LocalizedText("Acknowledged" if is_acknowledged else "Unacknowledged")
        raised, localized = time_from_text(condition.since), _V.LocalizedText
        return {
            "NodeId": (node_id, _V.NodeId),
            "ConditionClassId": (ua.NodeId(ua.ObjectIds.SystemConditionClassType), _V.NodeId),
            "ConditionClassName": (ua.LocalizedText("SystemConditionClassType"), localized),
            "ConditionName": (condition.name, _V.String),
            "BranchId": (ua.NodeId(), _V.NodeId),
            "Retain": (condition.name in self._known, _V.Boolean),
            "EnabledState": (ua.LocalizedText("Enabled"), localized),
            "EnabledState/Id": (True, _V.Boolean),
            "Quality": (ua.StatusCode(0), _V.StatusCode),
            "Quality/SourceTimestamp": (raised, _V.DateTime),
            "LastSeverity": (int(condition.severity), _V.UInt16),
            "LastSeverity/SourceTimestamp": (raised, _V.DateTime),
            "Comment": (ua.LocalizedText(""), localized),
            "Comment/SourceTimestamp": (raised, _V.DateTime),
            "ClientUserId": (caller_name(), _V.String),
            "AckedState": (words, localized),
            "AckedState/Id": (is_acknowledged, _V.Boolean),
            "ConfirmedState": (words, localized),
            "ConfirmedState/Id": (is_acknowledged and not condition.is_active, _V.Boolean),
            "BlockReaction": (condition.severity >= Severity.ERROR and condition.is_active, _V.Boolean),
            "StopReaction": (condition.severity >= Severity.PERSISTENT_ERROR and condition.is_active, _V.Boolean),
            "CausePath": (condition.name, _V.String),
            "ErrorCode": (abs(condition.code), _V.UInt64),
            "ErrorString": (condition.text, _V.String),
        }

    async def _acknowledge(self, condition_id: ua.NodeId, event_id: ua.Variant, comment: ua.Variant) -> ua.StatusCode:
        caller, name = CALLER.get(), self._nodes.get(condition_id, "")
        if caller is None or not caller.role.covers(Role.ENGINEER):
            return ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        condition, event = self._known.get(name), self._events.get(name)
        if condition is None or event is None:
            return ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown)
        if event_id.Value != event.EventId:
            return ua.StatusCode(ua.StatusCodes.BadEventIdUnknown)
        self._acknowledged.add((condition.name, condition.since))
        words = "" if is_absent(comment.Value) else getattr(comment.Value, "Text", "") or ""
        try:
            await self._tell_station(words)
            await self.changed(condition)
        except StationError:
            return ua.StatusCode(ua.StatusCodes.BadInvalidState)
        return ua.StatusCode(0)

    async def _tell_station(self, comment: str) -> None:
        """Confirm at the station once every condition was acknowledged here."""
        if all(self._is_acknowledged(one) for one in self._known.values()):
            await self._space.station.confirm_all(comment, caller_name())

    async def confirm_all(self, comment: str) -> None:
        """Acknowledge every condition, as ConfirmAll asks."""
        await self._space.station.confirm_all(comment, caller_name())
        for condition in list(self._known.values()):
            self._acknowledged.add((condition.name, condition.since))
            await self.changed(condition)

    async def _refresh(self, subscription: int, item: Any = None) -> Sequence[ua.Variant]:
        """Send the conditions that last to one subscription, between the two events that frame them."""
        start, end = ua.ObjectIds.RefreshStartEventType, ua.ObjectIds.RefreshEndEventType
        for event in (self._frame(start), *(self._events[name] for name in self._known), self._frame(end)):
            await self._emitter.send(event, int(subscription))
        return ()

    def _frame(self, kind: int) -> BaseEvent:
        event = BaseEvent(self._space.system.nodeid, "refresh")
        event.EventType = ua.NodeId(kind)
        event.Message = ua.LocalizedText("refresh")
        return event


def kind_of(severity: Severity) -> int:
    """Return the condition type of a severity."""
    if severity >= Severity.PERSISTENT_ERROR:
        return events.PERSISTENT_CONDITION
    return events.ERROR_CONDITION if severity >= Severity.ERROR else events.WARNING_CONDITION
