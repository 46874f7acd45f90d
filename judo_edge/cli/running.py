"""`judo-edge run` and `judo-edge doctor`: the station at the line, and whether this machine is fit for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judo_edge.cli.app import EXIT_GATE, app

if TYPE_CHECKING:
    from judo_edge.station.config import StationConfig

StationFile = Annotated[Path, typer.Argument(metavar="STATION.toml", help="What is at the line.")]


@app.command()
def run(
    station: StationFile,
    check: Annotated[bool, typer.Option("--check", help="Read the file, say what would be started, and end.")] = False,
) -> None:
    """Run a station until SIGTERM or Ctrl-C: every trigger gets exactly one durable verdict.

    Exit code 0 after a clean stop. A second Ctrl-C kills what has not ended yet.
    """
    from judo_edge.station.config import station_from_file
    from judo_edge.station.supervisor.running import run_station

    config = station_from_file(station)
    if check:
        _show(config, station)
        return
    run_station(config, station)


def _show(config: StationConfig, file: Path) -> None:
    from judo_edge.station.supervisor.folders import run_folder_of
    from judo_edge.station.supervisor.table import table_of

    run_folder = run_folder_of(config)
    typer.echo(f"station {config.station.name}: data in {config.data}, run folder {run_folder}")
    for recipe in config.recipes:
        typer.echo(f"recipe {recipe.id}: part {recipe.part}, bundle {recipe.bundle}")
    for spec in table_of(config, file, run_folder):
        typer.echo(f"process {spec.name}: {' '.join(spec.command)}")


@app.command()
def doctor(
    station: Annotated[
        Path | None, typer.Argument(metavar="[STATION.toml]", help="What is at the line; without it the machine alone.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of findings as JSON.")] = False,
) -> None:
    """Check machine and station, and say what to do: ok, warn or fail, a line each.

    Exit code 0 when nothing fails, 1 otherwise. Photos are taken only while the station does not run.
    """
    from judo_edge.station.config import station_from_file
    from judo_edge.station.doctor.examining import examined
    from judo_edge.station.doctor.findings import is_fit

    config = station_from_file(station) if station else None
    findings = []
    for finding in examined(config, station):
        findings.append(finding)
        if not as_json:
            action = f" -> {finding.action}" if finding.action else ""
            typer.echo(f"{finding.level.value:<5} {finding.name}: {finding.found}{action}")
    if as_json:
        typer.echo(json.dumps([finding.model_dump(mode="json") for finding in findings], ensure_ascii=False, indent=1))
    if not is_fit(findings):
        raise typer.Exit(EXIT_GATE)
