"""The command of who wants a station's results elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from judo_edge.cli.app import Force, noted
from judo_edge.cli.station import station
from judo_edge.errors import InputError

_Since = Annotated[str, typer.Option("--since", metavar="TIME", help="Only results from then on, such as 2026-11-25.")]
_Until = Annotated[str, typer.Option("--until", metavar="TIME", help="Only results before then.")]


@station.command("export")
def export_results(
    config: Annotated[Path, typer.Argument(metavar="STATION.toml", help="Settings of the station.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write: .parquet or .csv.")],
    since: _Since = "",
    until: _Until = "",
    force: Force = False,
) -> None:
    """Write the results of a station, with reviews and late results, to a Parquet or CSV file; it may go on running."""
    from judo_edge.station.config import station_from_file
    from judo_edge.station.exporting import exported_rows, time_from_text
    from judo_edge.station.parquet import write_csv, write_parquet

    writers = {".parquet": write_parquet, ".csv": write_csv}
    if out.suffix not in writers:
        raise InputError(f"{out} ends in {out.suffix!r}", "a name that ends in .parquet or .csv")
    bounds = [time_from_text(text) if text else None for text in (since, until)]
    count = writers[out.suffix](exported_rows(station_from_file(config), *bounds), out, force)
    noted(f"{count} results in {out}")
