"""The VisionSystem object and its state machines: what a client sees of the station's state, and how it changes it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from asyncua import Node, ua

from judo_edge.station.opcua import events, types
from judo_edge.station.opcua.basetypes import EPOCH, VISION, SystemStateDataType
from judo_edge.station.opcua.space import OWN, Space, method_from_body, structure, text, uint32
from judo_edge.station.opcua.types import id_of, is_absent
from judo_edge.station.results import JobRequest, StationEvent, Status
from judo_edge.station.states import NUMBERS, OPERATIONAL_NUMBER, State
from judo_edge.station.users import Role

_UNSUPPORTED = (
    *("AddRecipe", "RemoveRecipe", "UnlinkProduct", "LinkProduct", "AddConfiguration", "RemoveConfiguration"),
    *("SafetyStateManagement", "<Product>", "ConfigurationTransfer", "RecipeTransfer", "ResultTransfer", "Handle"),
)
"""Optional children of the types that a station does not have."""
_TYPE_OF_MACHINE = {"VisionStateMachine": 1017, "AutomaticModeStateMachine": 1021}
_OPERATIONAL = "Operational"
_V = ua.VariantType


async def add_system(space: Space) -> None:
    """Add the VisionSystem object with everything below it that a station has."""
    server = space.server
    vision_system = ua.NodeId(1003, VISION)
    await server.nodes.objects.add_object(space.system.nodeid, ua.QualifiedName("VisionSystem", OWN), vision_system)
    await prune(space, space.system)


async def prune(space: Space, node: Node) -> None:
    """Remove the optional children that a station does not have."""
    for child in await node.get_children():
        name = (await child.read_browse_name()).Name or ""
        if name in _UNSUPPORTED or name.endswith("StepModel"):
            await space.server.delete_nodes([child], recursive=True)
        elif await child.read_node_class() == ua.NodeClass.Object:
            await prune(space, child)


class StateMachine:
    """Both state machines and the variables about the system's state."""

    def __init__(self, space: Space, emitter: events.Emitter) -> None:
        """Take the space; `prepare` adds what is lacking and links the methods."""
        self._space, self._emitter = space, emitter
        self._ids: dict[str, ua.NodeId] = {}
        self._nodes: dict[str, Node] = {}
        self._last: events.Fields = {}
        self._shown: tuple[object, ...] = ()

    async def prepare(self) -> None:
        """Find the nodes of states and transitions, add the optional variables, link the methods."""
        for number in _TYPE_OF_MACHINE.values():
            for child in await self._space.node(ua.NodeId(number, VISION)).get_children():
                self._ids[(await child.read_browse_name()).Name or ""] = child.nodeid
        upper = await self._space.system.get_child([f"{VISION}:VisionStateMachine"])
        lower = await upper.get_child([f"{VISION}:AutomaticModeStateMachine"])
        for title, node in (("upper", upper), ("lower", lower)):
            await self._prepare_machine(title, node)
        await self._link(upper, lower)
        for name in ("SystemState", "DiagnosticLevel"):
            self._nodes[name] = await self._space.system.get_child([f"{VISION}:{name}"])
        await self._space.write(self._nodes["DiagnosticLevel"], ua.Variant(0, _V.UInt16))
        await self.show_away()

    async def _prepare_machine(self, title: str, node: Node) -> None:
        state = await node.get_child(["0:CurrentState"])
        self._nodes[title], self._nodes[f"{title}.id"] = state, await state.get_child(["0:Id"])
        self._nodes[f"{title}.number"] = await _variable(state, "Number", ua.Variant(0, _V.UInt32))
        base, name = node.nodeid.Identifier, ua.QualifiedName("LastTransition", 0)
        at = ua.NodeId(f"{base}.LastTransition", OWN)
        last = await node.add_variable(at, name, ua.LocalizedText(""), _V.LocalizedText)
        self._nodes[f"{title}.last"] = last
        self._nodes[f"{title}.last.id"] = await _variable(last, "Id", ua.Variant(ua.NodeId(), _V.NodeId))
        self._nodes[f"{title}.last.number"] = await _variable(last, "Number", ua.Variant(0, _V.UInt32))
        never = ua.Variant(EPOCH, _V.DateTime)
        self._nodes[f"{title}.last.time"] = await _variable(last, "TransitionTime", never)

    async def _link(self, upper: Node, lower: Node) -> None:
        link, station, v = self._space.link, self._space.station, VISION
        await link(upper, f"{v}:Halt", Role.ENGINEER, self._told(station.halt))
        await link(upper, f"{v}:Reset", Role.ENGINEER, self._told(station.reset))
        await link(upper, f"{v}:SelectModeAutomatic", Role.ENGINEER, self._select)
        await link(lower, f"{v}:Stop", Role.OPERATOR, self._told(station.stop))
        await link(lower, f"{v}:Abort", Role.OPERATOR, self._told(station.abort))
        await link(lower, f"{v}:SimulationMode", Role.ENGINEER, self._simulate)
        no_job = (structure(types.JobIdDataType()),)
        await link(lower, f"{v}:StartSingleJob", Role.OPERATOR, self._start_single, no_job)
        await link(lower, f"{v}:StartContinuous", Role.OPERATOR, self._start_continuous, no_job)

    def _told(self, command: Any) -> Any:
        """Return a method that gives a command and answers when the new state can be read."""

        async def body(cause: int, description: str | None) -> Sequence[ua.Variant]:
            await command(int(cause or 0), description or "")
            await self.show(await self._space.station.status())
            return ()

        return body

    async def _select(self) -> Sequence[ua.Variant]:
        await self._space.station.select_automatic()
        await self.show(await self._space.station.status())
        return ()

    async def _simulate(self, activate: bool, cause: int, description: str) -> Sequence[ua.Variant]:
        await self._space.station.simulate(bool(activate))
        return ()

    async def _start_single(self, *arguments: Any) -> Sequence[ua.Variant]:
        job = await self._space.station.start_single(request_from_arguments(*arguments))
        return (structure(types.JobIdDataType(Id=ua.String(job.job_id))),)

    async def _start_continuous(self, *arguments: Any) -> Sequence[ua.Variant]:
        job = await self._space.station.start_continuous(request_from_arguments(*arguments))
        return (structure(types.JobIdDataType(Id=ua.String(job.job_id))),)

    async def show(self, status: Status) -> None:
        """Show the state of the station; the same as before costs nothing."""
        shown = (status.state, status.is_simulating)
        if shown == self._shown:
            return
        self._shown, state = shown, status.state
        await self._show_state(state)
        equipment, words = _equipment(state)
        description = types.SystemStateDescriptionDataType(State=equipment, StateDescription=ua.String(words))
        await self._space.write(self._nodes["SystemState"], structure(description))

    async def show_away(self) -> None:
        """Show that the station is not there."""
        self._shown = ()
        await self._show_state(State.ERROR)
        down = types.SystemStateDescriptionDataType(
            State=SystemStateDataType.UDT_5, StateDescription=ua.String("the station's core is away")
        )
        await self._space.write(self._nodes["SystemState"], structure(down))

    async def _show_state(self, state: State) -> None:
        number = OPERATIONAL_NUMBER if state.is_operational else state.number
        await self._write_state("upper", _OPERATIONAL if state.is_operational else state.value, number)
        if state.is_operational:
            await self._write_state("lower", state.value, state.number)
        else:
            for name in ("lower", "lower.id", "lower.number"):
                null = ua.Variant(None, _V.Null)
                await self._space.write(self._nodes[name], null, ua.StatusCodes.BadStateNotActive)

    async def _write_state(self, machine: str, name: str, number: int) -> None:
        await self._space.write(self._nodes[machine], text(name))
        await self._space.write(self._nodes[f"{machine}.id"], ua.Variant(self._ids[name], _V.NodeId))
        await self._space.write(self._nodes[f"{machine}.number"], uint32(number))

    async def moved(self, event: StationEvent) -> None:
        """Show a transition and tell of it."""
        name, source, target = (str(event.data[key]) for key in ("name", "source", "target"))
        await self._show_state(State(target))
        self._shown = ()
        title = "lower" if State(source).is_operational and State(target).is_operational else "upper"
        number, node_id = int(event.data["number"]), self._transition_id(name)
        await self._space.write(self._nodes[f"{title}.last"], text(name))
        await self._space.write(self._nodes[f"{title}.last.id"], ua.Variant(node_id, _V.NodeId))
        await self._space.write(self._nodes[f"{title}.last.number"], uint32(number))
        now = ua.Variant(datetime.now(timezone.utc), _V.DateTime)
        await self._space.write(self._nodes[f"{title}.last.time"], now)
        self._last = self._fields(name, number, source, target)
        await self._emitter.emit(events.STATE_CHANGED, f"{source} to {target}", self._last, at=event.at)

    async def failed(self, event: StationEvent) -> None:
        """Tell that the station entered Error."""
        reason = str(event.data.get("reason", ""))
        await self._emitter.emit(events.ERROR, reason, self._last, severity=700, at=event.at)

    async def recovered(self, event: StationEvent) -> None:
        """Tell that the error is over."""
        await self._emitter.emit(events.ERROR_RESOLVED, "the error is over", self._last, at=event.at)

    def _fields(self, name: str, number: int, source: str, target: str) -> events.Fields:
        fields: dict[str, tuple[Any, ua.VariantType]] = {}
        rows = [("Transition", name, self._transition_id(name), number)]
        for field, state in (("FromState", source), ("ToState", target)):
            rows.append((field, state, self._ids[state], NUMBERS[State(state)]))
        for field, shown, node_id, own_number in rows:
            fields[field] = (ua.LocalizedText(shown), _V.LocalizedText)
            fields[f"{field}/Id"] = (node_id, _V.NodeId)
            fields[f"{field}/Number"] = (own_number, _V.UInt32)
        return fields

    def _transition_id(self, name: str) -> ua.NodeId:
        return self._ids.get(name, ua.NodeId())


def request_from_arguments(meas_id: Any, part_id: Any, recipe: Any, product: Any, parameters: Any = None) -> JobRequest:
    """Return the job that StartSingleJob or StartContinuous asks for; Parameters are not used."""
    return JobRequest(
        recipe=id_of(recipe), part_id=id_of(part_id), meas_id=id_of(meas_id), product_id=id_of(product), origin="opcua"
    )


async def _variable(parent: Node, name: str, value: ua.Variant) -> Node:
    """Return a property of a state or transition variable, added where the type leaves it out."""
    node_id = ua.NodeId(f"{parent.nodeid.Identifier}.{name}", OWN)
    return await parent.add_property(node_id, ua.QualifiedName(name, 0), value.Value, value.VariantType)


def _equipment(state: State) -> tuple[SystemStateDataType, str]:
    if state in (State.SINGLE_EXECUTION, State.CONTINUOUS_EXECUTION):
        return SystemStateDataType.PRD_1, "inspecting"
    if state in (State.READY, State.INITIALIZED):
        return SystemStateDataType.SBY_2, "waiting for work"
    if state is State.ERROR:
        return SystemStateDataType.UDT_5, "in error"
    return SystemStateDataType.ENG_3, "not in automatic mode"


async def link_confirm_all(space: Space, confirmed: Any) -> None:
    """Let ConfirmAll acknowledge every condition; it has no outputs, so a refusal is only logged."""

    async def body(comment: Any) -> Sequence[ua.Variant]:
        words = "" if is_absent(comment) else getattr(comment, "Text", "") or ""
        await confirmed(words)
        return ()

    machine = await space.system.get_child([f"{VISION}:VisionStateMachine", f"{VISION}:ConfirmAll"])
    space.server.link_method(machine, method_from_body(body, Role.ENGINEER, has_error=False))
