"""ResultManagement of OPC 40001-101: results with the verdict on the part, kept until the client acknowledges them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncua import Node, ua

from judo_edge.errors import StationError
from judo_edge.station.opcua import SINK, machinerytypes
from judo_edge.station.opcua.basetypes import RESULT
from judo_edge.station.opcua.configurations import configuration_id
from judo_edge.station.opcua.records import machinery_from_result
from judo_edge.station.opcua.space import OWN, Space, structure, uint32
from judo_edge.station.opcua.types import id_of
from judo_edge.station.results import CHALLENGE, Result, ResultQuery
from judo_edge.station.users import Role

UNKNOWN_RESULT = -43
"""Error of one result id that the station does not know."""
_LOOKED_AT = 100
"""Results among which the latest of a part of the line is looked for: challenge parts are judged in a row."""
_NODE = ua.NodeId("MachineryResults", OWN)
_V = ua.VariantType


class MachineryResults:
    """The object ResultManagement of 40001-101, below the VisionSystem object."""

    def __init__(self, space: Space) -> None:
        """Take the space; `prepare` adds the object."""
        self._space, self._configuration = space, str(configuration_id(space.config).Id)
        self._latest: Node | None = None

    async def prepare(self) -> None:
        """Add the object and link its methods; AcknowledgeResults too where the NodeSet is older than 1.01."""
        name = ua.QualifiedName("ResultManagement", RESULT)
        node = await self._space.system.add_object(_NODE, name, ua.NodeId(1004, RESULT))
        await self._drop_unsupported(node)
        await self._add_acknowledge(node)
        await self._link(node)
        folder = await node.get_child([f"{RESULT}:Results"])
        latest, qualified = ua.NodeId("MachineryResults.Latest", OWN), ua.QualifiedName("Latest", OWN)
        data_type = machinerytypes.MachineryResultDataType.data_type
        empty = machinerytypes.MachineryResultDataType()
        self._latest = await folder.add_variable(latest, qualified, empty, _V.ExtensionObject, datatype=data_type)

    async def _drop_unsupported(self, node: Node) -> None:
        for child in await node.get_children():
            if (await child.read_browse_name()).Name == "ResultTransfer":
                await self._space.server.delete_nodes([child], recursive=True)
            elif (await child.read_browse_name()).Name == "Results":
                await self._space.server.delete_nodes(await child.get_children(), recursive=True)

    async def _add_acknowledge(self, node: Node) -> None:
        names = {(await child.read_browse_name()).Name for child in await node.get_children()}
        if "AcknowledgeResults" not in names:
            node_id = ua.NodeId("MachineryResults.AcknowledgeResults", OWN)
            name, ids = ua.QualifiedName("AcknowledgeResults", RESULT), ua.NodeId(31918, 0)
            inputs = [_argument("ResultIds", ids, is_array=True)]
            errors = _argument("ErrorPerResultId", ua.NodeId(6, 0), is_array=True)
            outputs = [errors, _argument("Error", ua.NodeId(6, 0))]
            await node.add_method(node_id, name, None, inputs, outputs)

    async def _link(self, node: Node) -> None:
        link, r = self._space.link, RESULT
        nothing = (uint32(0), structure(machinerytypes.MachineryResultDataType()))
        await link(node, f"{r}:GetLatestResult", Role.OPERATOR, self._get_latest, nothing)
        await link(node, f"{r}:GetResultById", Role.OPERATOR, self._by_id, nothing)
        ids = ua.Variant([], _V.String, is_array=True)
        await link(node, f"{r}:GetResultIdListFiltered", Role.OPERATOR, self._ids, (uint32(0), ids))
        await link(node, f"{r}:ReleaseResultHandle", Role.OPERATOR, self._space.handles.release)
        errors = ua.Variant([], _V.Int32, is_array=True)
        await link(node, f"{r}:AcknowledgeResults", Role.OPERATOR, self._acknowledge, (errors,))

    async def show(self, result: Result) -> None:
        """Show the latest result."""
        if self._latest is not None:
            await self._space.write(self._latest, structure(self._record(result)))

    def _record(self, result: Result) -> machinerytypes.MachineryResultDataType:
        return machinery_from_result(result, self._configuration)

    async def _get_latest(self, timeout: int) -> Sequence[ua.Variant]:
        found = await self._space.station.results(ResultQuery(newest_first=True, limit=_LOOKED_AT))
        latest = next((one for one in found if one.origin != CHALLENGE), None)
        if latest is None:
            raise StationError("no result yet", "a job first", number=-45)
        return (self._space.handles.new(), structure(self._record(latest)))

    async def _by_id(self, result_id: Any, timeout: int) -> Sequence[ua.Variant]:
        found = await self._space.station.result(id_of(result_id))
        if found is None:
            raise StationError(f"no result {id_of(result_id)!r}", "the id of a stored result", number=UNKNOWN_RESULT)
        return (self._space.handles.new(), structure(self._record(found)))

    async def _ids(self, content_filter: Any, order: Any, most: int, timeout: int) -> Sequence[ua.Variant]:
        """Return the ids of the oldest results that were not acknowledged; Filter and OrderedBy are not read."""
        if getattr(content_filter, "Elements", None):
            action = "ask without a filter, or use GetResultListFiltered"
            raise StationError("a content filter", "none", action, number=-46)
        found = await self._space.station.unacknowledged(SINK, min(most or 1000, 1000))
        ids = ua.Variant([one.result_id for one in found], _V.String, is_array=True)
        return (self._space.handles.new(), ids)

    async def _acknowledge(self, result_ids: Sequence[str] | None) -> Sequence[ua.Variant]:
        done = await self._space.station.acknowledge(SINK, [id_of(one) for one in result_ids or ()])
        return (ua.Variant([0 if one else UNKNOWN_RESULT for one in done], _V.Int32, is_array=True),)


def _argument(name: str, data_type: ua.NodeId, is_array: bool = False) -> ua.Argument:
    return ua.Argument(Name=ua.String(name), DataType=data_type, ValueRank=ua.Int32(1 if is_array else -1))
