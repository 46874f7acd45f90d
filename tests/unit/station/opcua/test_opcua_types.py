"""The types of both specifications: our tables against the NodeSet files, and structures on the wire."""

import asyncio
from dataclasses import fields

import pytest

asyncua = pytest.importorskip("asyncua")

from asyncua import Server, ua
from asyncua.ua.ua_binary import extensionobject_from_binary, extensionobject_to_binary

from judo_edge.errors import ConfigError
from judo_edge.station.config import station_from_file
from judo_edge.station.opcua import MACHINE_VISION, types
from judo_edge.station.opcua.nodeset import add_types, checked_nodeset
from judo_edge.station.opcua.server import OpcuaServer
from judo_edge.station.opcua.types import id_of, is_absent, register_types
from tests.opcua_clients import NODESETS, nodesets, station_file
from tests.opcua_station import MemoryStation


def both():
    found = nodesets()
    if not found:
        pytest.skip(f"no {' and '.join(NODESETS.values())} in ../shared/data/opcua or the npm package")
    return found


async def tree(node, path=""):
    """Every node below one: path -> what a client sees of it."""
    found = {}
    for child in await node.get_children():
        name = await child.read_browse_name()
        where = f"{path}/{name.NamespaceIndex}:{name.Name}"
        seen = [(await child.read_node_class()).name]
        if name.Name in ("InputArguments", "OutputArguments"):
            seen.append([(one.Name, one.DataType, one.ValueRank) for one in await child.read_value()])
        elif seen[0] == "Variable":
            seen += [await child.read_data_type(), await child.read_value_rank()]
        found[where] = seen
        found |= await tree(child, where)
    return found


async def seen_by_clients(path):
    server = OpcuaServer(station_file_config(path), MemoryStation())
    await server.build()
    nodes = server.server
    return await tree(nodes.get_node(ua.NodeId("VisionSystem", 4))), await type_facts(nodes)


def station_file_config(path):
    return station_from_file(path)


async def type_facts(server):
    """Data types of both specifications as clients decode them: number -> fields."""
    found = {}
    for cls in types.BINARY:
        node = server.get_node(cls.data_type)
        sdef = await node.read_data_type_definition()
        rows = [(one.Name, one.DataType, one.ValueRank, bool(one.IsOptional)) for one in sdef.Fields]
        found[cls.data_type] = (sdef.StructureType, sdef.DefaultEncodingId, rows)
    return found


def test_our_tables_show_clients_what_the_nodesets_do(tmp_path):
    found = both()
    ours, our_types = asyncio.run(seen_by_clients(station_file(tmp_path / "ours")))
    theirs, their_types = asyncio.run(seen_by_clients(station_file(tmp_path / "theirs", **found)))
    assert ours == theirs
    assert our_types == their_types


def test_classes_have_the_fields_of_the_tables():
    async def check():
        server = Server()
        await server.init()
        await add_types(server, None, None)
        return await type_facts(server)

    found = asyncio.run(check())
    for cls in types.BINARY:
        _, encoding, rows = found[cls.data_type]
        names = [one.name for one in fields(cls) if one.name != "Encoding"]
        assert names == [name for name, *_ in rows]
        optional = [name for name, _, _, is_optional in rows if is_optional and name != "ResultMetaData"]
        assert [name for name in names if getattr(cls(), name) is None] == optional
        assert ua.extension_objects_by_typeid[encoding] is cls


@pytest.mark.parametrize(
    "cls", [types.RecipeIdExternalDataType, types.RecipeIdInternalDataType, types.ConfigurationIdDataType]
)
def test_subtypes_without_fields_stay_what_they_are(cls):
    register_types()
    sent = cls(Id="lid-7", Hash=b"\x01\x02", HashAlgorithm="SHA-256")
    back = extensionobject_from_binary(ua.utils.Buffer(extensionobject_to_binary(sent)))
    assert type(back) is cls
    assert (back.Id, back.Hash, back.Version) == ("lid-7", b"\x01\x02", None)


def test_a_null_structure_is_no_structure():
    assert is_absent(ua.ExtensionObject()) and is_absent(None)
    assert id_of(ua.ExtensionObject()) == id_of(None) == ""
    assert id_of(types.PartIdDataType(Id=" 4711 ")) == "4711"


@pytest.mark.parametrize(
    "content",
    ["", "<x>", "<x/>", '<!DOCTYPE x [<!ENTITY a "b">]><x/>', "<UANodeSet><Uri>urn:other</Uri></UANodeSet>"],
)
def test_another_file_is_no_nodeset(tmp_path, content):
    (tmp_path / "file.xml").write_text(content)
    with pytest.raises(ConfigError, match=r"file\.xml"):
        checked_nodeset(tmp_path / "file.xml", MACHINE_VISION)
    with pytest.raises(ConfigError, match="cannot be read"):
        checked_nodeset(tmp_path / "missing.xml", MACHINE_VISION)
