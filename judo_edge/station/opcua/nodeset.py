"""The types of OPC 40100-1 and 40001-101 in a server: from NodeSet files where they are given, else from our tables.

NodeSet files are the user's own; none is part of judo-edge.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from asyncua import Server, ua

from judo_edge.errors import ConfigError, first_line
from judo_edge.station.opcua import MACHINE_VISION, MACHINERY_RESULT, STATION
from judo_edge.station.opcua.builder import build_from_table
from judo_edge.station.opcua.machinerytypes import MachineryResultDataType
from judo_edge.station.opcua.types import (
    BinaryIdBaseDataType,
    ConfigurationIdDataType,
    RecipeIdExternalDataType,
    RecipeIdInternalDataType,
    encoding_of,
    register_types,
)

_TABLES = {MACHINE_VISION: "machine_vision.txt", MACHINERY_RESULT: "machinery_result.txt"}
_UA = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
_TYPES = "{http://opcfoundation.org/UA/2008/02/Types.xsd}"
_TYPE_ID = f".//{_TYPES}ExtensionObject/{_TYPES}TypeId/{_TYPES}Identifier"
_MAX_BYTES = 64 << 20


async def add_types(server: Server, machine_vision: Path | None, machinery_result: Path | None) -> None:
    """Register the namespaces as 2, 3 and 4 and add the types. ConfigError names a file that is no such NodeSet."""
    logging.getLogger("asyncua.ua.uatypes").setLevel(logging.ERROR)  # warns of names that two specifications share
    for uri in (MACHINE_VISION, MACHINERY_RESULT, STATION):
        await server.register_namespace(uri)
    for uri, path in ((MACHINE_VISION, machine_vision), (MACHINERY_RESULT, machinery_result)):
        if path is None:
            index = await server.get_namespace_index(uri)
            await build_from_table(server, Path(__file__).with_name(_TABLES[uri]), index)
        else:
            await _import(server, path, uri)
    if machine_vision is not None:
        await _define_subtypes(server)
    if machinery_result is not None:
        await _allow_subtypes(server)
    register_types()


async def _import(server: Server, path: Path, uri: str) -> None:
    root = checked_nodeset(path, uri)
    _drop_own_values(root)
    try:
        await server.import_xml(xmlstring=ElementTree.tostring(root, "unicode"))
    except Exception as error:
        found = f"{path} cannot be read as a NodeSet: {first_line(error)}"
        raise ConfigError(found, f"the NodeSet2 file of {uri}", "leave the setting out") from error


async def _define_subtypes(server: Server) -> None:
    """Give the subtypes without fields of their own a definition, which is what clients read; the file has none.

    Its base is Structure: node-opcua reads inherited fields twice when it meets a subtype before its base.
    """
    base = await server.get_node(BinaryIdBaseDataType.data_type).read_data_type_definition()
    for cls in (RecipeIdExternalDataType, RecipeIdInternalDataType, ConfigurationIdDataType):
        definition = replace(base, DefaultEncodingId=encoding_of(cls))
        await _write_definition(server, cls.data_type, definition)


async def _allow_subtypes(server: Server) -> None:
    """Say again that ResultMetaData may be of a subtype, which asyncua's import loses; it is encoded accordingly."""
    data_type = MachineryResultDataType.data_type
    definition = await server.get_node(data_type).read_data_type_definition()
    definition.StructureType = ua.StructureType.StructureWithSubtypedValues
    definition.Fields[0].IsOptional = True
    await _write_definition(server, data_type, definition)


async def _write_definition(server: Server, data_type: ua.NodeId, definition: ua.StructureDefinition) -> None:
    value = ua.DataValue(ua.Variant(definition, ua.VariantType.ExtensionObject))
    await server.get_node(data_type).write_attribute(ua.AttributeIds.DataTypeDefinition, value)


def _drop_own_values(root: ElementTree.Element) -> None:
    """Remove the default values that are structures of the specification itself.

    They are empty examples, and asyncua looks their classes up by browse name, which two specifications share.
    """
    for node in root:
        value = node.find(f"{_UA}Value")
        if value is not None and any(_is_own(found.text) for found in value.iterfind(_TYPE_ID)):
            node.remove(value)


def _is_own(type_id: str | None) -> bool:
    return (type_id or "").strip().startswith("ns=")


def checked_nodeset(path: Path, uri: str) -> ElementTree.Element:
    """Return the root of a NodeSet of the namespace; ConfigError for any other file."""
    wanted, action = f"the NodeSet2 file of {uri}", "correct the path, or leave the setting out"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than {_MAX_BYTES >> 20} MiB", wanted, action)
        text = path.read_text("utf-8")
        if "<!ENTITY" in text:
            raise ConfigError(f"{path} declares entities", wanted, action)
        root = ElementTree.fromstring(text)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise ConfigError(f"{path} cannot be read: {first_line(error)}", wanted, action) from error
    if uri not in (found.text for found in root.iterfind(f".//{_UA}Uri")):
        raise ConfigError(f"{path} does not hold that namespace", wanted, action)
    return root
