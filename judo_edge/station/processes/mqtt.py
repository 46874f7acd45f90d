"""The MQTT process: everything that a broker is told of the station."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from judo_edge.station.client import StationClient
from judo_edge.station.config import StationConfig
from judo_edge.station.mqtt.link import check_table, open_link
from judo_edge.station.mqtt.sink import Sink
from judo_edge.station.workers import SOCKET_NAME


async def run_mqtt(config: StationConfig, run_folder: Path) -> None:
    """Publish until cancelled; ConfigError for unsafe settings, DependencyError without paho-mqtt."""
    update = {"password_file": _path(config, config.mqtt.password_file), "ca": _path(config, config.mqtt.ca)}
    table = config.mqtt.model_copy(update=update)
    connect = partial(open_link, table, config.station.name, check_table(table))
    async with StationClient(run_folder / SOCKET_NAME, "mqtt") as station:
        await Sink(station, connect, lambda text: station.call("sink_state", text=text)).run()


def _path(config: StationConfig, path: Path | None) -> Path | None:
    return None if path is None else config.path(path)
