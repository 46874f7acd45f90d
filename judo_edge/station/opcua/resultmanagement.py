"""ResultManagement of OPC 40100-1: results by id and by filter, and a folder with the latest ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields as dataclass_fields
from typing import Any

from asyncua import Node, ua

from judo_edge.errors import StationError
from judo_edge.station.opcua import types
from judo_edge.station.opcua.basetypes import VISION
from judo_edge.station.opcua.configurations import configuration_id
from judo_edge.station.opcua.events import RESULT_TYPES
from judo_edge.station.opcua.records import vision_from_result
from judo_edge.station.opcua.space import OWN, Space, boolean, structure, uint32
from judo_edge.station.opcua.types import id_of
from judo_edge.station.results import Result, ResultQuery, ResultState
from judo_edge.station.users import Role

SLOTS = 8
"""Variables in the folder Results; each result takes the place of the oldest."""
MOST = 1000
"""Results of one answer."""
_V = ua.VariantType


class ResultManagement:
    """The object ResultManagement."""

    def __init__(self, space: Space) -> None:
        """Take the space; `prepare` links the methods."""
        self._space, self._configuration = space, configuration_id(space.config)
        self._slots: list[dict[str, Node]] = []

    async def prepare(self) -> None:
        """Link the methods and add the variables of the folder."""
        node = await self._space.system.get_child([f"{VISION}:ResultManagement"])
        link, none, v = self._space.link, types.ResultDataType(), VISION
        nothing = (boolean(True), uint32(0), uint32(0), ua.Variant([], _V.ExtensionObject, is_array=True))
        await link(node, f"{v}:GetResultById", Role.OPERATOR, self._by_id, (uint32(0), structure(none)))
        await link(node, f"{v}:GetResultComponentsById", Role.OPERATOR, self._components, _components(none, uint32(0)))
        await link(node, f"{v}:GetResultListFiltered", Role.OPERATOR, self._list, nothing)
        await link(node, f"{v}:ReleaseResultHandle", Role.OPERATOR, self._space.handles.release)
        folder = await node.get_child([f"{v}:Results"])
        self._slots = [await self._add_slot(folder, number) for number in range(1, SLOTS + 1)]

    async def _add_slot(self, folder: Node, number: int) -> dict[str, Node]:
        node_id, name = ua.NodeId(f"Results.Result{number}", OWN), ua.QualifiedName(f"Result{number}", OWN)
        empty, data_type = types.ResultDataType(), types.ResultDataType.data_type
        node = await folder.add_variable(node_id, name, empty, _V.ExtensionObject, datatype=data_type)
        nodes = {"": node}
        for field in _result_fields():
            child_id = ua.NodeId(f"{node_id.Identifier}.{field}", OWN)
            value, qualified = _field(empty, field), ua.QualifiedName(field, VISION)
            data_type = _DATA_TYPES.get(field) or value.Value.data_type
            nodes[field] = await node.add_variable(child_id, qualified, value, datatype=data_type)
        return nodes

    async def show(self, result: Result) -> None:
        """Put a result in the place of the oldest one in the folder."""
        record = self.record(result)
        nodes = self._slots[(result.number - 1) % SLOTS]
        for field in _result_fields():
            await self._space.write(nodes[field], _field(record, field))
        await self._space.write(nodes[""], structure(record))

    def record(self, result: Result) -> types.ResultDataType:
        """Return a result as this server writes it."""
        return vision_from_result(result, self._configuration)

    async def _found(self, result_id: Any) -> types.ResultDataType:
        wanted = id_of(result_id)
        result = await self._space.station.result(wanted)
        if result is None:
            raise StationError(f"no result {wanted!r}", "the id of a stored result", number=-43)
        return self.record(result)

    async def _by_id(self, result_id: Any, timeout: int) -> Sequence[ua.Variant]:
        record = await self._found(result_id)
        return (self._space.handles.new(), structure(record))

    async def _components(self, result_id: Any, timeout: int) -> Sequence[ua.Variant]:
        record = await self._found(result_id)
        return _components(record, self._space.handles.new())

    async def _list(
        self,
        state: int,
        meas_id: Any,
        part_id: Any,
        external_recipe: Any,
        internal_recipe: Any,
        external_configuration: Any,
        internal_configuration: Any,
        product: Any,
        job: Any,
        most: int,
        start: int,
        timeout: int,
    ) -> Sequence[ua.Variant]:
        wanted = {id_of(external_configuration), id_of(internal_configuration)} - {"", self._configuration.Id}
        query = ResultQuery(
            state=ResultState(state) if state else None,
            meas_id=id_of(meas_id),
            part_id=id_of(part_id),
            external_recipe_id=id_of(external_recipe),
            internal_recipe_id=id_of(internal_recipe),
            product_id=id_of(product),
            job_id=id_of(job),
            limit=MOST,
        )
        found, is_complete = ([], True) if wanted else await self._page(query, start, min(most or MOST, MOST))
        records = ua.Variant([self.record(one) for one in found], _V.ExtensionObject, is_array=True)
        return (boolean(is_complete), uint32(len(found)), self._space.handles.new(), records)

    async def _page(self, query: ResultQuery, start: int, most: int) -> tuple[list[Result], bool]:
        """Return `most` results from the `start`-th on, and whether these are the last ones."""
        skipped, found = 0, list[Result]()
        while True:
            page = await self._space.station.results(query)
            fresh = page[max(0, start - skipped) :]
            found.extend(fresh)
            skipped += len(page)
            if len(page) < query.limit or len(found) > most:
                return found[:most], len(page) < query.limit and len(found) <= most
            query = query.model_copy(update={"after": page[-1].number})


def _result_fields() -> list[str]:
    names = [one.name for one in dataclass_fields(types.ResultDataType)]
    return [name for name in names if name not in ("Encoding", "HasTransferableDataOnFile")]


def _components(record: types.ResultDataType, handle: ua.Variant) -> tuple[ua.Variant, ...]:
    """Return the outputs of GetResultComponentsById: the fields, with the handle after the first."""
    return (boolean(False), handle, *(_field(record, name) for name in _result_fields()[1:]))


def _field(record: types.ResultDataType, name: str) -> ua.Variant:
    """Return a field with its type; an empty value where there is none."""
    value = getattr(record, name)
    is_array = name == "ResultContent"
    value = _EMPTY[name]() if value is None else value
    return ua.Variant(value, RESULT_TYPES.get(name, _V.ExtensionObject), is_array=is_array)


_DATA_TYPES = {
    "IsPartial": ua.NodeId(1, 0),
    "IsSimulated": ua.NodeId(1, 0),
    "ResultState": ua.NodeId(3009, VISION),
    "CreationTime": ua.NodeId(294, 0),
    "ResultContent": ua.NodeId(24, 0),
}
"""Data types of the fields that are no structures."""
_EMPTY: dict[str, Any] = {
    "IsSimulated": bool,
    "MeasId": types.MeasIdDataType,
    "PartId": types.PartIdDataType,
    "ExternalRecipeId": types.RecipeIdExternalDataType,
    "ProductId": types.ProductIdDataType,
    "ExternalConfigurationId": types.ConfigurationIdDataType,
    "ProcessingTimes": types.ProcessingTimesDataType,
    "ResultContent": list,
}
