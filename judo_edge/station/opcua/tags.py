"""The folder Tags for PLCs that read, write and call methods and nothing more; `taglist` says what each tag means."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from asyncua import Node, ua

from judo_edge.errors import JudoEdgeError, StationError
from judo_edge.station.opcua import SINK
from judo_edge.station.opcua.space import (
    NOT_FINISHED,
    OWN,
    Space,
    boolean,
    done_in_a_moment,
    method_from_body,
    number_of,
    string,
)
from judo_edge.station.opcua.taglist import TAGS, Tag, fields_of_result
from judo_edge.station.results import JobRequest, Recipe, Result, Status
from judo_edge.station.states import State
from judo_edge.station.users import Role

_V = ua.VariantType
_log = logging.getLogger(__name__)


_REMEMBERED = 1000
"""Jobs whose result was shown: the answer to a trigger may come after it."""
_EMPTY = {_V.Boolean: False, _V.String: "", _V.Double: 0.0}
_READY = frozenset({State.READY, State.CONTINUOUS_EXECUTION})


class Tags:
    """The folder Tags."""

    def __init__(self, space: Space) -> None:
        """Take the space; `prepare` adds the folder."""
        self._space = space
        self._nodes: dict[str, Node] = {}
        self._values: dict[str, Any] = {one.name: _EMPTY.get(one.variant, 0) for one in TAGS}
        self._values["PlcAlive"] = True
        self._tasks: set[asyncio.Task[Any]] = set()
        self._beat = 0.0
        self._is_read, self._open = True, set[str]()
        self._ended = deque[str](maxlen=_REMEMBERED)
        self._num_starting = 0
        self._writing = asyncio.Lock()

    async def prepare(self) -> None:
        """Add the folder, its tags and methods."""
        name = ua.QualifiedName("Tags", OWN)
        folder = await self._space.server.nodes.objects.add_folder(ua.NodeId("Tags", OWN), name)
        for tag in TAGS:
            await self._add(folder, tag)
        for tag_name, written in (
            ("Trigger", self._trigger_written),
            ("Ack", self._ack_written),
            ("PlcHeartbeat", self._heartbeat_written),
        ):
            self._space.server.set_attribute_value_setter(self._nodes[tag_name].nodeid, _setter(written))
        methods = ua.NodeId("Tags.Methods", OWN)
        await self._add_methods(await folder.add_object(methods, ua.QualifiedName("Methods", OWN)))

    async def _add(self, folder: Node, tag: Tag) -> None:
        node_id, name = ua.NodeId(f"Tags.{tag.name}", OWN), ua.QualifiedName(tag.name, OWN)
        node = self._nodes[tag.name] = await folder.add_variable(node_id, name, self._values[tag.name], tag.variant)
        if tag.is_writable:
            await node.set_writable()
        description = ua.DataValue(ua.Variant(ua.LocalizedText(tag.meaning), _V.LocalizedText))
        await node.write_attribute(ua.AttributeIds.Description, description)

    async def _add_methods(self, folder: Node) -> None:
        error = ("Error", _V.Int32)
        for name, role, body, empty, inputs, outputs in (
            (
                "Trigger",
                Role.OPERATOR,
                self._called,
                (boolean(False), string("")),
                (("PartId", _V.String), ("MeasId", _V.String)),
                (("Accepted", _V.Boolean), ("JobId", _V.String), error),
            ),
            ("Acknowledge", Role.OPERATOR, self._acknowledge, (), (("ResultId", _V.String),), (error,)),
            ("Prepare", Role.ENGINEER, self._prepare_recipe, (), (("RecipeId", _V.String),), (error,)),
        ):
            callback = method_from_body(body, role, empty)
            arguments = [[_argument(*one) for one in side] for side in (inputs, outputs)]
            node_id = ua.NodeId(f"Tags.Methods.{name}", OWN)
            await folder.add_method(node_id, ua.QualifiedName(name, OWN), callback, *arguments)

    async def set(self, **values: Any) -> None:
        """Write tags in the given order; those that keep their value are left alone."""
        for name, value in values.items():
            if self._values[name] != value:
                self._values[name] = value
                variant = next(one.variant for one in TAGS if one.name == name)
                await self._space.write(self._nodes[name], ua.Variant(value, variant))

    async def show(self, status: Status) -> None:
        """Show state and counters."""
        missed = status.counters.missed + status.counters.refused
        await self.set(
            Ready=status.state in _READY,
            State=status.state.value,
            MissedTriggers=missed & 0xFFFFFFFF,
            Heartbeat=status.heartbeat & 0xFFFFFFFF,
        )

    async def show_state(self, state: State) -> None:
        """Show a state that was just entered."""
        await self.set(Ready=state in _READY, State=state.value)

    async def show_away(self) -> None:
        """Show that the station's core is away; the fields of the last result stay."""
        self._open.clear()
        await self.set(Ready=False, State="", Busy=False)

    async def show_result(self, result: Result) -> None:
        """Write all fields of a result, then toggle Done."""
        async with self._writing:
            self._open.discard(result.job_id)
            self._ended.append(result.job_id)
            overwritten = self._values["Overwritten"] + (0 if self._is_read else 1)
            self._is_read = False
            await self.set(Ok=False, Busy=self._is_busy)
            await self.set(**fields_of_result(result), Overwritten=overwritten & 0xFFFFFFFF)
            await self.set(Done=not self._values["Done"])

    async def job_started(self, job_id: str) -> None:
        """Note that a job of any origin runs: the last verdict is no longer that of the part at hand."""
        self._open.add(job_id)
        await self._clear()

    @property
    def _is_busy(self) -> bool:
        return bool(self._open) or self._num_starting > 0

    async def _clear(self) -> None:
        async with self._writing:
            await self.set(Ok=False, Busy=self._is_busy)
            await self.set(Nok=False, NotDecidable=False, Error=False, Simulated=False, ErrorCode=0)

    async def watch_plc(self) -> bool:
        """Return whether the PLC lives: it never wrote a heartbeat, or did so in time."""
        limit = self._space.config.opcua.plc_timeout
        is_alive = not self._beat or time.monotonic() - self._beat < limit
        await self.set(PlcAlive=is_alive)
        return is_alive

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _trigger_written(self, before: Any, value: Any) -> None:
        if value and not before:
            self._later(self._triggered())
        elif not value:
            self._later(self.set(TriggerAck=False))

    async def _triggered(self) -> None:
        values = [await self._nodes[name].read_value() for name in ("TriggerPartId", "TriggerMeasId")]
        try:
            await self._start(*(str(one or "") for one in values))
        except JudoEdgeError as error:
            await self._refused(error, *(str(one or "") for one in values))
        finally:
            await self.set(TriggerAck=True)

    async def _start(self, part_id: str, meas_id: str) -> str:
        request = JobRequest(part_id=part_id, meas_id=meas_id, origin="tags")
        self._num_starting += 1
        try:
            await self._clear()
            job_id = (await self._space.station.trigger(request)).job_id
            if job_id not in self._ended:
                self._open.add(job_id)
            return job_id
        finally:
            self._num_starting -= 1

    async def _refused(self, error: JudoEdgeError, part_id: str, meas_id: str) -> None:
        _log.info("trigger refused: %s", error)
        verdict = {"Ok": False, "Nok": False, "NotDecidable": True, "Error": True, "Simulated": False}
        numbers = {"ErrorCode": number_of(error), "Score": 0.0, "Threshold": 0.0, "NumCells": 0}
        texts = {"PartId": part_id, "MeasId": meas_id, "ResultId": "", "Reason": error.found}
        async with self._writing:
            await self.set(**verdict, **numbers, **texts, Busy=self._is_busy)
            await self.set(Done=not self._values["Done"])

    async def _called(self, part_id: str | None, meas_id: str | None) -> Sequence[ua.Variant]:
        try:
            job = await self._start(part_id or "", meas_id or "")
        except JudoEdgeError as error:
            await self._refused(error, part_id or "", meas_id or "")
            raise
        return (boolean(True), string(job))

    def _ack_written(self, before: Any, value: Any) -> None:
        if value:
            self._later(self._acknowledged(str(value)))

    async def _acknowledged(self, result_id: str) -> None:
        try:
            await self._acknowledge(result_id)
        except JudoEdgeError as error:
            _log.warning("Ack: %s", error)

    async def _acknowledge(self, result_id: str | None) -> Sequence[ua.Variant]:
        wanted = (result_id or "").strip()
        done = await self._space.station.acknowledge(SINK, [wanted])
        if not all(done):
            raise StationError(f"no result {wanted!r}", "the id of a stored result", number=-43)
        if wanted == self._values["ResultId"]:
            self._is_read = True
        return ()

    async def _prepare_recipe(self, recipe: str | None) -> Sequence[ua.Variant]:
        if await done_in_a_moment(self._preparing((recipe or "").strip()), self._tasks) is None:
            raise StationError("the recipe is still being prepared", "Ready", "wait for Ready", number=NOT_FINISHED)
        return ()

    async def _preparing(self, recipe: str) -> Recipe:
        return await self._space.station.prepare(recipe)

    def _heartbeat_written(self, before: Any, value: Any) -> None:
        if value != before:
            self._beat = time.monotonic()


def _setter(written: Callable[[Any, Any], None]) -> Any:
    """Return what asyncua calls in place of storing a written value."""

    def store(node: Any, attribute: ua.AttributeIds, value: ua.DataValue) -> None:
        held = node.attributes[attribute]
        before = held.value.Value.Value if held.value and held.value.Value else None
        held.value, held.value_callback = value, None
        written(before, value.Value.Value if value.Value else None)

    return store


def _argument(name: str, variant: ua.VariantType) -> ua.Argument:
    return ua.Argument(Name=ua.String(name), DataType=ua.NodeId(variant.value, 0), ValueRank=ua.Int32(-1))
