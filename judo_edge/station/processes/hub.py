"""The hub process: opens the ledger, serves the socket, and ends only when every accepted job has its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from pathlib import Path

from judo_edge.files import output_error_from_os
from judo_edge.station.config import StationConfig
from judo_edge.station.hub.service import Service
from judo_edge.station.hub.station import Station
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.quality import Quality
from judo_edge.station.workers import SPOOL_NAME

_log = logging.getLogger(__name__)


async def run_hub(config: StationConfig, run_folder: Path) -> None:
    """Run the hub until SIGTERM or until cancelled; raises OutputError when ledger or socket cannot be opened."""
    _make_folder(run_folder / SPOOL_NAME)
    ledger = await asyncio.to_thread(Ledger, config.data, config.retention.reserve_megabytes << 20)
    station = Station(config, ledger, run_folder)
    quality = Quality(station)
    service = Service(station, run_folder)
    await station.start()
    quality.start()
    try:
        await service.open()
        await _until_stopped()
    finally:
        await asyncio.shield(_closed(station, service, quality))


async def _closed(station: Station, service: Service, quality: Quality) -> None:
    _log.info("stopping: accepted jobs get their verdicts")
    await quality.close()
    await station.close()
    await service.close()


async def _until_stopped() -> None:
    stopped = asyncio.Event()
    with contextlib.suppress(NotImplementedError, RuntimeError):  # no signals but in the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise output_error_from_os(error, folder) from error
