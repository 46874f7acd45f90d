"""The process that serves OPC UA, speaking to the hub as a client."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from judo_edge.files import output_errors, write_atomic
from judo_edge.station.client import StationClient
from judo_edge.station.config import StationConfig
from judo_edge.station.opcua import check_installed
from judo_edge.station.users import FILE_NAME, UserStore
from judo_edge.station.workers import SOCKET_NAME

URL_FILE = "opcua.url"
"""In the run folder: where the server is, for a port that the system chose."""
_log = logging.getLogger(__name__)


async def run_opcua(config: StationConfig, run_folder: Path) -> None:
    """Serve until cancelled.

    Raises ConfigError for a NodeSet that cannot be read, OutputError without a port, DependencyError without asyncua.
    """
    check_installed()
    from judo_edge.station.opcua.server import OpcuaServer

    logging.getLogger("asyncua").setLevel(logging.ERROR)  # it warns of each client that was refused or went away
    logging.getLogger("asyncua.server.uaprocessor").addFilter(_is_no_answer)
    if not UserStore(config.data / FILE_NAME).list():
        _log.warning("nobody can log in: add a user by `judo-edge station user add`")
    async with StationClient(run_folder / SOCKET_NAME, "opcua") as station:
        server = OpcuaServer(config, station)
        await server.start()
        try:
            write_atomic(_url_file(run_folder), server.url.encode(), force=True)
            await asyncio.Event().wait()
        finally:
            await server.stop()


def _is_no_answer(record: logging.LogRecord) -> bool:
    """Tell whether a line is of a fault: what a client is told of its mistake is none; who is refused has a line."""
    return not record.getMessage().startswith("sending service fault response")


def _url_file(run_folder: Path) -> Path:
    with output_errors(run_folder):
        run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return run_folder / URL_FILE
