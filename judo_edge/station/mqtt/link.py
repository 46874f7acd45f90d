"""One connection to a broker, for asyncio: publish and learn when the broker has it. Needs paho-mqtt.

A connection that was lost is not mended: whoever sends makes another, and sends again what was not confirmed.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from judo_edge.errors import ConfigError, DependencyError, StationError, first_line
from judo_edge.station.config import MqttTable
from judo_edge.station.mqtt.payload import OFFLINE

KEEP_ALIVE, CONNECT_SECONDS, CLOSE_SECONDS = 10, 10.0, 2.0
"""Seconds: between signs of life, for a connection, for the last words."""
MAX_UNCONFIRMED = 100
"""Messages that may be under way at a time."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class BrokerError(StationError):
    """The broker is away or refuses us."""


class Link:
    """An open connection; made by `open_link`."""

    def __init__(self, client: Any, base: str) -> None:
        """Take a client that is not connected yet, and the topic below which all is published."""
        self._client, self._base, self._loop = client, base, asyncio.get_running_loop()
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._connected: asyncio.Future[str] = self._loop.create_future()
        self._seq = 0
        self.lost = asyncio.Event()
        client.on_connect = self._told(self._on_connect)
        client.on_disconnect = self._told(self._on_disconnect)
        client.on_publish = self._told(self._on_publish)

    async def open(self, host: str, port: int) -> None:
        """Connect; BrokerError when there is no broker or it refuses."""
        try:
            await asyncio.to_thread(self._client.connect, host, port, KEEP_ALIVE)
            self._client.loop_start()
            refusal = await asyncio.wait_for(asyncio.shield(self._connected), CONNECT_SECONDS)
        except (OSError, ValueError, asyncio.TimeoutError) as error:
            raise _away(f"the broker at {host}:{port}", first_line(error)) from error
        if refusal:
            raise BrokerError(f"the broker at {host}:{port} refuses: {refusal}", "", "check user and password_file")

    def publish(self, topic: str, payload: Callable[[int], bytes], retain: bool = False) -> asyncio.Future[None]:
        """Send with QoS 1; the future ends when the broker has it, with BrokerError when the connection is lost before.

        `payload` is given the sequence number of the message.
        """
        confirmed: asyncio.Future[None] = self._loop.create_future()
        info = self._client.publish(f"{self._base}/{topic}", payload(self._seq), qos=1, retain=retain)
        self._seq = (self._seq + 1) % 256
        if self.lost.is_set() or info.rc:
            _fail(confirmed)
        else:
            self._unconfirmed[info.mid] = confirmed
        return confirmed

    async def close(self) -> None:
        """Hang up without the last will."""
        await asyncio.to_thread(self._client.disconnect)
        await asyncio.to_thread(self._client.loop_stop)
        self._on_disconnect()

    def _told(self, method: Callable[..., None]) -> Callable[..., None]:
        """Have what the client's thread tells done in the loop, after what the loop is doing now."""

        def tell(client: Any, userdata: Any, *args: Any) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(method, *args)

        return tell

    def _on_connect(self, flags: Any, reason: Any, properties: Any) -> None:
        if not self._connected.done():
            self._connected.set_result(str(reason) if reason.is_failure else "")

    def _on_publish(self, mid: int, reason: Any, properties: Any) -> None:
        confirmed = self._unconfirmed.pop(mid, None)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)

    def _on_disconnect(self, *_: Any) -> None:
        self.lost.set()
        for confirmed in self._unconfirmed.values():
            _fail(confirmed)
        self._unconfirmed.clear()


async def open_link(table: MqttTable, station: str, password: str) -> Link:
    """Connect to the broker of a station; BrokerError when it is away, DependencyError without paho-mqtt."""
    base = f"{table.topic}/{station}"
    client = _client(f"judo-edge-{station}")
    client.will_set(f"{base}/state", json.dumps(OFFLINE), qos=1, retain=True)
    client.max_inflight_messages_set(MAX_UNCONFIRMED)
    if table.user:
        client.username_pw_set(table.user, password)
    if table.ca is not None:
        client.tls_set_context(_tls(table.ca))
    link = Link(client, base)
    try:
        await link.open(table.host, table.port)
    except BaseException:
        await link.close()
        raise
    return link


def check_table(table: MqttTable) -> str:
    """Return the password, empty without a user; ConfigError when the settings are unsafe or a file is missing."""
    if table.ca is None and table.host not in _LOOPBACK and (table.user or not table.is_plain):
        what = "the password would be readable" if table.user else "results could be read and forged"
        found = f"mqtt.host is {table.host} without mqtt.ca: {what} on the way"
        raise ConfigError(found, "TLS for any broker on another machine", "set mqtt.ca")
    if table.ca is not None:
        _tls(table.ca)
    return _password(table.password_file) if table.password_file is not None else ""


def _password(path: Path) -> str:
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"mqtt.password_file {path} cannot be read", "a text file", "check the path") from error
    if mode & 0o077:
        raise ConfigError(f"others may read {path}", "mode 0600", f"chmod 600 {path}")
    return text.strip()


def _tls(ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"mqtt.ca {ca} cannot be used", "certificates in PEM", "check the file") from error


def _client(name: str) -> Any:
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise DependencyError("paho-mqtt is not installed", action="pip install 'judo-edge[mqtt]'") from error
    return Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=True, reconnect_on_failure=False)


def _fail(confirmed: asyncio.Future[None]) -> None:
    """Tell whoever waits that the connection was lost; nobody has to wait."""
    if not confirmed.done():
        confirmed.set_exception(_away("the broker", "connection lost"))
        confirmed.exception()


def _away(who: str, why: str) -> BrokerError:
    return BrokerError(f"{who} is away: {why}", "a broker that answers", "nothing: results are kept and sent later")
