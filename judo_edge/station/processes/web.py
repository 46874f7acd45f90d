"""The process that serves the web page: the application on a socket, speaking to the hub as a client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from judo_edge.errors import ConfigError, DependencyError
from judo_edge.station.client import StationClient
from judo_edge.station.config import StationConfig
from judo_edge.station.users import FILE_NAME, UserStore
from judo_edge.station.workers import SOCKET_NAME

if TYPE_CHECKING:
    import uvicorn

    from judo_edge.station.web.desk import Desk

URL_FILE = "web.url"
"""In the run folder: where the page is, for a port that the system chose."""
_GRACE = 2
"""Seconds that open requests have to end when the process stops."""

_log = logging.getLogger(__name__)


async def run_web(config: StationConfig, run_folder: Path) -> None:
    """Serve until cancelled. Raises ConfigError, or DependencyError without the extra `web`."""
    try:
        from judo_edge.station.web.app import app_from_desk, desk_from_station
        from judo_edge.station.web.settings import settings_from_station
    except ModuleNotFoundError as error:
        found = f"the web page needs the package {error.name!r}"
        raise DependencyError(found, "the extra web", "pip install 'judo-edge[web]'") from error
    settings = settings_from_station(config, run_folder)
    async with StationClient(run_folder / SOCKET_NAME, "web") as station:
        desk = desk_from_station(station, UserStore(config.data / FILE_NAME), settings)
        await serve(desk, server_from_desk(desk, app_from_desk(desk)), run_folder)


def server_from_desk(desk: Desk, app: object) -> uvicorn.Server:
    """Return a server that leaves signals and logs to the process it runs in."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    settings = desk.settings
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its steps at start and stop are nobody's business
    certificate, key = ((str(path) if path else None) for path in (settings.certificate, settings.key))
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=settings.host,
        port=settings.port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
        limit_concurrency=200,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        found = f"web: certificate and key cannot be used: {error}"
        raise ConfigError(found, "PEM files that belong together", "correct web.certificate and web.key") from error
    return Server(config)


async def serve(desk: Desk, server: uvicorn.Server, run_folder: Path) -> None:
    """Serve until cancelled, and say where in the log and in the run folder; ConfigError if the port is taken."""
    if not desk.users.list():
        _log.warning("nobody can sign in: add a user by `judo-edge station user add`")
    with bound_socket(desk.settings.host, desk.settings.port) as listener:
        url = _url(listener, desk.settings.is_secure)
        (run_folder / URL_FILE).write_text(url)
        _log.info("the page is at %s", url)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            await asyncio.shield(serving)
        finally:
            desk.watch.close()
            server.should_exit = True
            await serving


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; ConfigError when it cannot."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        found = f"web: cannot listen on {host}:{port}: {error.strerror}"
        raise ConfigError(found, "a free port of this machine", "set web.host and web.port") from error
    return listener


def _url(listener: socket.socket, is_secure: bool) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if is_secure else 'http'}://{shown}:{port}/"
