"""What the page's server needs of STATION.toml, checked: address, certificate, host names, times."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from judo_edge.errors import ConfigError
from judo_edge.station.config import StationConfig

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class WebSettings:
    """How the page is served."""

    host: str
    port: int
    names: frozenset[str]
    """Hosts that a browser may name, in lower case; an address literal of this machine is right as well."""
    uploads: Path
    """Folder for photos between upload and enrolment."""
    certificate: Path | None = None
    key: Path | None = None
    idle_seconds: float = 12 * 3600.0

    @property
    def is_secure(self) -> bool:
        """Tell whether the page is served by TLS."""
        return self.certificate is not None


def settings_from_station(config: StationConfig, run_folder: Path) -> WebSettings:
    """Check what STATION.toml says; ConfigError for an open address without TLS, or half a certificate."""
    web = config.web
    certificate, key = (config.path(path) if path else None for path in (web.certificate, web.key))
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise ConfigError(f"web: {path} is not a file", "a PEM file", "correct web.certificate and web.key")
    if (certificate is None) != (key is None):
        raise ConfigError("web: only one of certificate and key is given", "both", "set the other one")
    if certificate is None and not is_loopback(web.host):
        found = f"web.host = {web.host!r} without a certificate"
        raise ConfigError(found, "HTTPS for any address but loopback", "set web.certificate and web.key")
    names = _names(web.host) | {name.lower() for name in web.names}
    return WebSettings(
        web.host, web.port, frozenset(names), run_folder / "uploads", certificate, key, web.session_hours * 3600
    )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _names(host: str) -> set[str]:
    if is_loopback(host):
        return {*_LOOPBACK, host.lower()}
    machine = socket.gethostname().lower()
    return {machine, *(() if host in _ANY else (host.lower(),))}
