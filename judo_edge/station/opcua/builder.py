"""Build the types of a companion specification from a table, where no NodeSet file is given.

A table is indented text, a node a line: `Method 7094 Halt M (Cause:0:6 CauseDescription:0:12) -> (Error:0:6)` is an
instance declaration of number 7094 that is mandatory (O optional, - without a modelling rule). Numbers are of the
specification's namespace, `0:` means the base namespace. Node numbers, names and types are the standard's own, so a
client sees the same as with the NodeSet, less what a station does not offer.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from asyncua import Server, ua

_RULES = {"M": 78, "O": 80, "OP": 11508, "MP": 11510}
_REFERENCES = {"from": 51, "to": 52, "by": 53, "fires": 54}
_FIRST_OWN = 50_000
"""Numbers of nodes that the table gives none: the arguments of methods."""
_CLASSES = {
    "DataType": ua.NodeClass.DataType,
    "ObjectType": ua.NodeClass.ObjectType,
    "VariableType": ua.NodeClass.VariableType,
}
_ARGUMENTS = re.compile(r"\((.*?)\) -> \((.*?)\)")


async def build_from_table(server: Server, path: Path, index: int) -> None:
    """Add the nodes of a table to namespace `index`; the namespace must be registered."""
    builder = _Builder(server, index)
    lines = [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    for line in lines:  # children name types of later lines
        if not line.startswith(" "):
            await builder.add_type(line.split())
    for line in lines:
        await builder.add_below(line)
    await builder.finish()


class _Builder:
    """Adds one line after the other; what refers to later lines waits for `finish`."""

    def __init__(self, server: Server, index: int) -> None:
        self._session, self._server, self._index = server.iserver.isession, server, index
        self._above: list[ua.NodeId] = []
        self._references: list[tuple[ua.NodeId, int, ua.NodeId]] = []
        self._numbers = itertools.count(_FIRST_OWN)
        self._binary: dict[ua.NodeId, ua.NodeId | None] = {}
        self._parents: dict[ua.NodeId, ua.NodeId] = {}
        self._rows: dict[ua.NodeId, list[list[str]]] = {}

    async def add_below(self, line: str) -> None:
        """Add a child, or note which type the following children belong to."""
        depth = (len(line) - len(line.lstrip())) // 2
        words = line.split()
        del self._above[depth:]
        if words[0] in ("Field", "Value"):
            self._rows.setdefault(self._above[0], []).append(words)
        else:
            self._above.append(self._id(words[1]) if depth == 0 else await self._add_child(words, line))

    async def finish(self) -> None:
        """Add what refers to nodes of other lines, and the definitions of the data types."""
        for source, kind, target in self._references:
            await self._refer(source, kind, target)
        for node in self._binary:
            rows = self._rows.get(node) or self._rows.get(
                self._parents[node], []
            )  # a definition holds inherited fields
            if rows:
                is_enum = bool(rows) and rows[0][0] == "Value"
                definition = _enum(rows) if is_enum else self._structure(rows, self._binary[node])
                await self._write(node, ua.AttributeIds.DataTypeDefinition, definition)

    def _id(self, word: str) -> ua.NodeId:
        number = word.removesuffix("[]")
        return ua.NodeId(int(number[2:]), 0) if number.startswith("0:") else ua.NodeId(int(number), self._index)

    def _name(self, word: str) -> ua.QualifiedName:
        return ua.QualifiedName(word[2:], 0) if word.startswith("0:") else ua.QualifiedName(word, self._index)

    async def add_type(self, words: list[str]) -> None:
        """Add a type without what is below it."""
        kind, number, name, _, parent, *rest = words
        node, super_type = self._id(number), self._id(parent)
        attributes = _type_attributes(kind)
        attributes.IsAbstract = "abstract" in rest
        if kind == "VariableType":
            attributes.DataType = self._id(rest[-1])
        await self._node(node, self._name(name), _CLASSES[kind], super_type, 45, None, attributes)
        await self._refer(node, 45, super_type, is_forward=False)
        if kind == "DataType":
            self._binary[node], self._parents[node] = await self._add_encoding(node, rest), super_type

    async def _add_encoding(self, node: ua.NodeId, rest: list[str]) -> ua.NodeId | None:
        found = [word.partition("=")[2] for word in rest if word.startswith("binary=")]
        if not found:
            return None
        encoding, name = self._id(found[0]), ua.QualifiedName("Default Binary", 0)
        await self._node(
            encoding, name, ua.NodeClass.Object, node, 38, ua.NodeId(76, 0), ua.ObjectAttributes(EventNotifier=0)
        )
        return encoding

    async def _add_child(self, words: list[str], line: str) -> ua.NodeId:
        kind, number, name, rule, *rest = words
        node, parent, qualified = self._id(number), self._above[-1], self._name(name)
        if kind == "Method":
            await self._add_method(node, qualified, parent, line)
        elif kind == "Object":
            attributes = ua.ObjectAttributes(EventNotifier=0)
            await self._node(node, qualified, ua.NodeClass.Object, parent, 47, self._id(rest[0]), attributes)
            self._later(node, rest[1:])
        else:
            await self._add_variable(kind, node, qualified, parent, rest)
        if rule in _RULES:
            await self._refer(node, 37, ua.NodeId(_RULES[rule], 0))
        return node

    async def _add_variable(
        self, kind: str, node: ua.NodeId, name: ua.QualifiedName, parent: ua.NodeId, rest: list[str]
    ) -> None:
        value, is_array = ua.Variant(None), rest[0].endswith("[]")
        if "=" in rest:
            value = ua.Variant(int(rest[rest.index("=") + 1]), ua.VariantType.UInt32)
            rest = rest[: rest.index("=")]
        usual = "0:68" if kind == "Property" else "0:63"
        attributes = variable_attributes(self._id(rest[0]), value, is_array)
        type_definition = self._id(rest[1] if len(rest) > 1 else usual)
        reference = 46 if kind == "Property" else 47
        await self._node(node, name, ua.NodeClass.Variable, parent, reference, type_definition, attributes)

    async def _add_method(self, node: ua.NodeId, name: ua.QualifiedName, parent: ua.NodeId, line: str) -> None:
        attributes = ua.MethodAttributes(Executable=True, UserExecutable=True)
        await self._node(node, name, ua.NodeClass.Method, parent, 47, None, attributes)
        found = _ARGUMENTS.search(line)
        assert found is not None, line
        for title, words in zip(("InputArguments", "OutputArguments"), found.groups(), strict=True):
            if words:
                arguments = [self._argument(word) for word in words.split()]
                await self._add_arguments(node, title, arguments)

    async def _add_arguments(self, method: ua.NodeId, title: str, arguments: list[ua.Argument]) -> None:
        value = ua.Variant(arguments, ua.VariantType.ExtensionObject)
        attributes = variable_attributes(ua.NodeId(296, 0), value, is_array=True)
        name, generated = ua.QualifiedName(title, 0), ua.NodeId(next(self._numbers), self._index)
        node = await self._node(generated, name, ua.NodeClass.Variable, method, 46, ua.NodeId(68, 0), attributes)
        await self._refer(node, 37, ua.NodeId(78, 0))

    def _argument(self, word: str) -> ua.Argument:
        name, _, data_type = word.partition(":")
        rank = ua.Int32(1 if data_type.endswith("[]") else -1)
        return ua.Argument(Name=ua.String(name), DataType=self._id(data_type), ValueRank=rank)

    def _later(self, node: ua.NodeId, words: list[str]) -> None:
        for kind, _, target in (word.partition("=") for word in words):
            self._references.append((node, _REFERENCES[kind], self._id(target)))

    def _structure(self, rows: list[list[str]], binary: ua.NodeId | None) -> ua.StructureDefinition:
        """Return a definition with inherited fields, so its base is Structure: see `nodeset`."""
        fields = [
            ua.StructureField(
                Name=ua.String(row[1]),
                IsOptional=row[2] == "O" or row[-1] == "subtypes",
                DataType=self._id(row[3]),
                ValueRank=ua.Int32(1 if row[3].endswith("[]") else -1),
            )
            for row in rows
        ]
        kind = ua.StructureType.Structure
        if any(row[-1] == "subtypes" for row in rows):
            kind = ua.StructureType.StructureWithSubtypedValues
        elif any(row[2] == "O" for row in rows):
            kind = ua.StructureType.StructureWithOptionalFields
        return ua.StructureDefinition(
            DefaultEncodingId=binary or ua.NodeId(), BaseDataType=ua.NodeId(22, 0), StructureType=kind, Fields=fields
        )

    async def _node(
        self,
        node: ua.NodeId,
        name: ua.QualifiedName,
        node_class: ua.NodeClass,
        parent: ua.NodeId,
        reference: int,
        type_definition: ua.NodeId | None,
        attributes: Any,
    ) -> ua.NodeId:
        attributes.DisplayName = ua.LocalizedText(name.Name)
        item = ua.AddNodesItem()
        item.RequestedNewNodeId, item.BrowseName, item.NodeClass = node, name, node_class
        item.ParentNodeId, item.ReferenceTypeId = parent, ua.NodeId(reference, 0)
        if type_definition is not None:
            item.TypeDefinition = type_definition
        item.NodeAttributes = attributes
        added = (await self._session.add_nodes([item]))[0]
        added.StatusCode.check()
        return added.AddedNodeId

    async def _refer(self, source: ua.NodeId, kind: int, target: ua.NodeId, is_forward: bool = True) -> None:
        item = ua.AddReferencesItem()
        item.SourceNodeId, item.TargetNodeId = source, target
        item.ReferenceTypeId, item.IsForward = ua.NodeId(kind, 0), is_forward
        (await self._session.add_references([item]))[0].check()

    async def _write(self, node: ua.NodeId, attribute: ua.AttributeIds, value: Any) -> None:
        variant = ua.Variant(value, ua.VariantType.ExtensionObject)
        await self._server.get_node(node).write_attribute(attribute, ua.DataValue(variant))


def variable_attributes(data_type: ua.NodeId, value: ua.Variant, is_array: bool = False) -> ua.VariableAttributes:
    """Return the attributes of a variable that clients may read."""
    attributes = ua.VariableAttributes()
    attributes.DataType, attributes.Value = data_type, value
    attributes.ValueRank = ua.ValueRank.OneDimension if is_array else ua.ValueRank.Scalar
    attributes.ArrayDimensions = [ua.UInt32(0)] if is_array else None
    attributes.AccessLevel = attributes.UserAccessLevel = ua.AccessLevel.CurrentRead.mask
    attributes.Historizing = False
    return attributes


def _type_attributes(kind: str) -> Any:
    if kind == "DataType":
        return ua.DataTypeAttributes()
    return ua.ObjectTypeAttributes() if kind == "ObjectType" else ua.VariableTypeAttributes()


def _enum(rows: list[list[str]]) -> ua.EnumDefinition:
    fields = []
    for _, name, value in rows:
        text = ua.LocalizedText(name)
        fields.append(ua.EnumField(Name=ua.String(name), Value=ua.Int64(int(value)), DisplayName=text))
    return ua.EnumDefinition(Fields=fields)
