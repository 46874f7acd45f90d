"""ConfigurationManagement: the one configuration of a station is its file, named by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from asyncua import ua

from judo_edge.errors import StationError
from judo_edge.station.config import StationConfig
from judo_edge.station.opcua import types
from judo_edge.station.opcua.basetypes import VISION
from judo_edge.station.opcua.space import OWN, Space, boolean, structure, uint32
from judo_edge.station.opcua.types import id_of
from judo_edge.station.users import Role

_V = ua.VariantType


def configuration_id(config: StationConfig) -> types.ConfigurationIdDataType:
    """Return the id of the settings: SHA-256 of what they say, wherever the file lies."""
    digest = hashlib.sha256(config.model_dump_json(exclude={"folder"}).encode()).digest()
    found = types.ConfigurationIdDataType(Id=ua.String(digest.hex()[:32]))
    found.Hash, found.HashAlgorithm = ua.ByteString(digest), ua.String("SHA-256")
    found.Description = ua.LocalizedText(config.station.name)
    return found


class ConfigurationManagement:
    """The object ConfigurationManagement."""

    def __init__(self, space: Space) -> None:
        """Take the space; `prepare` links the methods."""
        self._space, own = space, configuration_id(space.config)
        now: Any = datetime.now(timezone.utc)
        self._record = types.ConfigurationDataType(
            HasTransferableDataOnFile=False, ExternalId=own, InternalId=own, LastModified=now
        )

    async def prepare(self) -> None:
        """Link the methods and show the configuration."""
        node = await self._space.system.get_child([f"{VISION}:ConfigurationManagement"])
        link, v, none = self._space.link, VISION, structure(types.ConfigurationDataType())
        nothing = (boolean(True), uint32(0), uint32(0), ua.Variant([], _V.ExtensionObject, is_array=True))
        await link(node, f"{v}:GetConfigurationById", Role.OPERATOR, self._by_id, (uint32(0), none))
        await link(node, f"{v}:GetConfigurationList", Role.OPERATOR, self._list, nothing)
        await link(node, f"{v}:ActivateConfiguration", Role.ENGINEER, self._activate)
        await link(node, f"{v}:ReleaseConfigurationHandle", Role.OPERATOR, self._space.handles.release)
        await self._space.write(await node.get_child([f"{v}:ActiveConfiguration"]), structure(self._record))
        folder, name = await node.get_child([f"{v}:Configurations"]), self._space.config.station.name
        node_id, qualified = ua.NodeId("Configurations.Active", OWN), ua.QualifiedName(name, OWN)
        data_type = types.ConfigurationDataType.data_type
        await folder.add_variable(node_id, qualified, self._record, _V.ExtensionObject, datatype=data_type)

    def _check(self, internal: Any) -> None:
        if id_of(internal) != self._record.InternalId.Id:
            wanted = "the active configuration; another one is another station file"
            raise StationError(f"configuration {id_of(internal)!r}", wanted, number=-44)

    async def _activate(self, internal: Any) -> Sequence[ua.Variant]:
        self._check(internal)
        return ()

    async def _by_id(self, internal: Any, timeout: int) -> Sequence[ua.Variant]:
        self._check(internal)
        return (self._space.handles.new(), structure(self._record))

    async def _list(self, most: int, start: int, timeout: int) -> Sequence[ua.Variant]:
        found = [self._record][start:]
        records = ua.Variant(found, _V.ExtensionObject, is_array=True)
        return (boolean(True), uint32(len(found)), self._space.handles.new(), records)
