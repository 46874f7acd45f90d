"""The address space as a table for who writes the PLC's program, without a server on the network."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from asyncua import Node, ua

from judo_edge.station.client import StationClient
from judo_edge.station.config import StationConfig
from judo_edge.station.opcua.server import OpcuaServer
from judo_edge.station.opcua.space import OWN

MEANINGS = {
    "VisionStateMachine": "State of the station: Preoperational, Halted, Error, Operational",
    "AutomaticModeStateMachine": "Within Operational: Initialized, Ready, SingleExecution, ContinuousExecution",
    "Halt": "Stop everything; waiting jobs end as aborted (engineer)",
    "Reset": "Go to Preoperational; recipes are put away (engineer)",
    "SelectModeAutomatic": "Go from Preoperational to Initialized (engineer)",
    "ConfirmAll": "Acknowledge all conditions (engineer)",
    "StartSingleJob": "Inspect one part; the result comes as event and in the lists",
    "StartContinuous": "Let triggers start jobs by themselves until Stop",
    "Stop": "End the execution; accepted jobs still get their verdicts",
    "Abort": "End the execution; jobs without a verdict end as aborted",
    "SimulationMode": "Mark results as simulated (engineer)",
    "PrepareRecipe": "Make a recipe ready, or an earlier version of it by InternalIdIn (engineer)",
    "UnprepareRecipe": "Put a recipe away (engineer)",
    "GetRecipeListFiltered": "Versions of recipes; IsPrepared 0 no, 1 yes, 2 both",
    "GetResultById": "One result",
    "GetResultComponentsById": "One result as separate outputs",
    "GetResultListFiltered": "Stored results by number; empty ids do not restrict",
    "AcknowledgeResults": "Note that results were taken",
    "GetResultIdListFiltered": "Ids of the oldest results that were not acknowledged",
    "GetLatestResult": "The newest result with ResultEvaluation 1 OK, 2 NotOK, 3 NotDecidable",
    "ActiveConfiguration": "The station file, by digest",
    "SystemState": "State after SEMI E10",
    "Conditions": "What is wrong, one node each; events carry Acknowledge and Retain",
    "Methods": "Methods with scalar arguments for PLCs",
    "Trigger": "Inspect a part; the verdict comes in the tags",
    "Acknowledge": "Note that a result was read",
    "Prepare": "Make a recipe ready (engineer); -91 while it takes longer than 2 s: wait for Ready",
}
"""Of nodes whose name alone does not say it."""
_HIDDEN = frozenset({"InputArguments", "OutputArguments", "StateNumber"})


@dataclass(frozen=True)
class Row:
    """One node."""

    path: str
    """Browse path below Objects, with namespace indices."""
    node_id: str
    kind: str
    """Object, Variable or Method."""
    type: str
    """Data type, or a method's arguments and results."""
    access: str
    """read, write or call."""
    meaning: str


def rows_of_station(config: StationConfig) -> list[Row]:
    """Return every node that a client of this station sees; ConfigError where a NodeSet cannot be read."""
    return asyncio.run(_rows(config))


async def _rows(config: StationConfig) -> list[Row]:
    nobody = StationClient(config.data, "opcua")  # connects at the first call, and none is made here
    server = OpcuaServer(config, nobody)
    await server.build()
    rows: list[Row] = []
    for name in ("VisionSystem", "Tags"):
        await _walk(server.server.get_node(ua.NodeId(name, OWN)), f"{OWN}:{name}", rows)
    return rows


async def _walk(node: Node, path: str, rows: list[Row]) -> None:
    rows.append(await _row(node, path))
    for child in await node.get_children():
        name = await child.read_browse_name()
        if name.Name not in _HIDDEN:
            await _walk(child, f"{path}/{name.NamespaceIndex}:{name.Name}", rows)


async def _row(node: Node, path: str) -> Row:
    kind = (await node.read_node_class()).name
    if kind == "Method":
        shown, written = await _signature(node), "call"
    elif kind == "Variable":
        shown, written = await _data_type(node), await _access(node)
    else:
        shown, written = await _type_name(node, await node.read_type_definition()), ""
    return Row(path, node.nodeid.to_string(), kind, shown, written, await _meaning(node, path))


async def _meaning(node: Node, path: str) -> str:
    name = path.rpartition(":")[2]
    description = (await node.read_description()).Text or ""
    return MEANINGS.get(name, "") if description in ("", name) else description


async def _signature(node: Node) -> str:
    sides: dict[str, list[str]] = {"InputArguments": [], "OutputArguments": []}
    for child in await node.get_children():
        name = (await child.read_browse_name()).Name
        if name in sides:
            sides[name] = [await _argument(node, one) for one in await child.read_value()]
    inputs, outputs = (", ".join(side) for side in sides.values())
    return f"({inputs}) -> ({outputs})"


async def _argument(node: Node, argument: Any) -> str:
    array = "[]" if argument.ValueRank == 1 else ""
    return f"{argument.Name}: {await _type_name(node, argument.DataType)}{array}"


async def _data_type(node: Node) -> str:
    rank = await node.read_value_rank()
    return await _type_name(node, await node.read_data_type()) + ("[]" if rank == ua.ValueRank.OneDimension else "")


async def _type_name(node: Node, type_id: ua.NodeId) -> str:
    return str((await Node(node.session, type_id).read_browse_name()).Name)


async def _access(node: Node) -> str:
    levels = await node.get_access_level()
    return "read, write" if ua.AccessLevel.CurrentWrite in levels else "read"
