"""What systemd is told: ready, stopping, alive, and one line of status. sd_notify(3) without its library.

Without NOTIFY_SOCKET in the environment nothing is sent. Knows no station.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Sends datagrams to the service manager that started this process."""

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        """Take the socket's address, empty for none, and the watchdog's limit in seconds, None for no watchdog."""
        self.address, self.watchdog = address, watchdog

    def send(self, **fields: str) -> bool:
        """Send `NAME=value` lines, such as READY="1"; False when nobody listens. Never raises: a service runs on."""
        if not self.address:
            return False
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        lines = "\n".join(f"{key}={value.splitlines()[0] if value else ''}" for key, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.connect(name)
                sender.sendall(lines.encode())
        except OSError:
            return False
        return True


def notifier_from_environment(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> Notifier:
    """Return a notifier as sd_notify(3) and sd_watchdog_enabled(3) read the environment.

    The watchdog counts only for the process that it names (WATCHDOG_PID), by default every one.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    usable = address[:1] in ("/", "@") and len(address) > 1
    limit, wanted = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    is_ours = wanted in ("", str(os.getpid() if pid is None else pid))
    watchdog = int(limit) / 1e6 if limit.isdigit() and int(limit) > 0 and is_ours else None
    return Notifier(address if usable else "", watchdog)


def without_notification(environment: MutableMapping[str, str]) -> MutableMapping[str, str]:
    """Remove what is meant for this process alone, before children inherit it."""
    for name in _VARIABLES:
        environment.pop(name, None)
    return environment
