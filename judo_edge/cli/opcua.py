"""The commands about the station's OPC UA server: its address space as a table, and how fast it answers."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from judo_edge.cli.app import app, noted
from judo_edge.errors import InputError
from judo_edge.terminal import print_table

opcua = typer.Typer(help="The station's OPC UA server.", no_args_is_help=True)
app.add_typer(opcua, name="opcua")

PASSWORD = "JUDO_EDGE_OPCUA_PASSWORD"


@opcua.command("describe")
def describe(
    station: Annotated[Path, typer.Argument(metavar="STATION.toml", help="Settings of the station.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print what a PLC's program can read, write and call: browse path, NodeId, access, meaning, type."""
    from judo_edge.station.config import station_from_file
    from judo_edge.station.opcua import check_installed

    check_installed()
    from judo_edge.station.opcua.describe import rows_of_station

    rows = rows_of_station(station_from_file(station))
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    header = ("browse path", "NodeId", "access", "meaning", "type")  # a method's arguments may be long: they come last
    print_table(header, [(row.path, row.node_id, row.access, row.meaning, row.type) for row in rows])


@opcua.command("bench")
def bench(
    url: Annotated[str, typer.Option("--url", metavar="URL", help="opc.tcp://HOST:PORT/judo-edge/")],
    user: Annotated[str, typer.Option("--user", help=f"User; the password is read from {PASSWORD} or asked for.")],
    pki: Annotated[Path, typer.Option("--pki", help="Folder of our key and certificate; made at the first run.")],
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=1000, help="Parts per second.")] = 10,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="How long.")] = 60,
) -> None:
    """Trigger parts at a running server and print how long method and result take, at last as one line of JSON."""
    from judo_edge.bench.opcua import measure, rows_from_report

    report = measure(url, user, _password(), rate, seconds, pki, noted)
    print_table(("waited for", "times", "p50 ms", "p99 ms", "max ms"), rows_from_report(report))
    typer.echo(report.model_dump_json())


def _password() -> str:
    if (given := os.environ.get(PASSWORD)) is not None:
        return given
    if not sys.stdin.isatty():
        raise InputError("no password", f"the variable {PASSWORD}", "set it, or run this at a terminal")
    return str(typer.prompt("Password", hide_input=True, err=True))
