"""A real station in a folder of its own: its file, its supervisor as a process, and what the harness asks of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from judo_edge.errors import JudoEdgeError
from judo_edge.station.client import StationClient
from judo_edge.station.results import Result, ResultQuery, Status
from judo_edge.station.states import State
from judo_edge.station.users import Role, UserStore
from judo_edge.station.workers import SOCKET_NAME

ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "line", "a long enough password"
_PORTS = range(20_000, 30_000)
"""Below those that systems lend to outgoing connections, which could take one while its server is away."""
CONFIG = """
[station]
name = "chaos"
data = "data"
run_folder = "run"
deadline = {deadline}
threads = 1
max_waiting = 8

[[recipes]]
id = "lid"
bundle = "{bundle}"

[[cameras]]
name = "top"
kind = "opencv"
device = 0

[[cameras]]
name = "in"
kind = "folder"
folder = "in"
part_id = "(?P<part_id>.*)"
settle = 0.0
give_up = 0.5

[retention]
reserve_megabytes = 4
max_megabytes = 8
keep_free_megabytes = 8
"""
FACADES = """
[opcua]
is_on = true
port = {opcua}

[web]
is_on = true
port = {web}
"""
SCRIPT = """
import sys
from pathlib import Path
from judo_edge.station.config import station_from_file
from judo_edge.station.supervisor.running import run_station
file = Path(sys.argv[1])
run_station(station_from_file(file), file, module="tests.chaos.processes")
"""


class ChaosStation:
    """One station that the harness starts, harms and asks."""

    def __init__(
        self, folder: Path, deadline: float = 2.0, bundle: str = "judo-nano", has_facades: bool = False
    ) -> None:
        """Write its file, and with façades its users and one trusted OPC UA client; nothing runs yet."""
        self.folder, self.run_folder, self.inbox = folder, folder / "run", folder / "in"
        for made in (self.run_folder, self.inbox):
            made.mkdir(parents=True, exist_ok=True)
        self.file = folder / "station.toml"
        self.opcua_port, self.web_port = free_ports(2)
        facades = FACADES.format(opcua=self.opcua_port, web=self.web_port) if has_facades else ""
        self.file.write_text(CONFIG.format(deadline=deadline, bundle=bundle) + facades)
        if has_facades:
            let_plc_in(folder)
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.log = folder / "stderr.log"
        self.client = StationClient(self.run_folder / SOCKET_NAME, "test")

    def start(self) -> None:
        """Start the supervisor, as systemd would; one that runs is left alone."""
        if self.supervisor is not None and self.supervisor.poll() is None:
            return
        with self.log.open("ab") as log:
            self.supervisor = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(self.file)], cwd=ROOT, stderr=log, env=environment()
            )

    def keep_running(self) -> None:
        """Start the supervisor again when it has ended."""
        self.start()

    def stop(self, timeout: float = 60.0) -> int:
        """Ask for a clean stop and return the exit status; kill what does not end."""
        if self.supervisor is None:
            return 0
        self.supervisor.send_signal(signal.SIGTERM)
        try:
            return self.supervisor.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return -1

    def kill(self) -> None:
        """Kill the supervisor; its processes go with it."""
        if self.supervisor is not None:
            self.supervisor.kill()
            self.supervisor.wait()

    async def status(self) -> Status | None:
        """Return what the hub says; None when it is away."""
        client = self.client
        with contextlib.suppress(JudoEdgeError, OSError, asyncio.TimeoutError):
            return await asyncio.wait_for(client.status(), 3.0)
        await self.begin_anew(client)
        return None

    async def begin_anew(self, client: StationClient) -> None:
        """Use a new connection in place of this one, which may end at a hub that was stopped."""
        if client is self.client:
            self.client = StationClient(self.run_folder / SOCKET_NAME, "test")
            with contextlib.suppress(JudoEdgeError, OSError, asyncio.TimeoutError):
                await asyncio.wait_for(client.close(), 1.0)

    async def until(self, condition: Callable[[Status], Any], seconds: float = 120.0) -> Status:
        """Wait until the status is such; TimeoutError with the log's end after `seconds`."""
        end, status = time.monotonic() + seconds, None
        while time.monotonic() < end:
            self.keep_running()
            status = await self.status()
            if status is not None and condition(status):
                return status
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{status}\n{self.log.read_text()[-4000:]}")

    async def until_ready(self, seconds: float = 120.0) -> Status:
        """Wait until the station takes triggers."""
        return await self.until(lambda status: status.state is State.READY, seconds)

    async def pid(self, name: str) -> int:
        """Return the process id of a process of the table, 0 when it does not run."""
        status = await self.status()
        found = [one.pid for one in status.processes if one.name == name] if status else []
        return found[0] if found else 0

    def pid_of(self, name: str) -> int:
        """Return the process id of a process of the table from the system's list, 0 when it does not run."""
        role, _, camera = name.partition(".")
        found = processes_of(self.run_folder, role.encode(), b"--name", (camera or role).encode())
        return found[0] if found else 0

    async def all_results(self) -> list[Result]:
        """Return every stored result by number."""
        found: list[Result] = []
        while page := await self.client.results(ResultQuery(after=found[-1].number if found else 0, limit=500)):
            found.extend(page)
        return found


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens."""
    found: list[int] = []
    while len(found) < count:
        with contextlib.suppress(OSError), socket.socket() as probe:
            port = random.choice(_PORTS)
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


def let_plc_in(folder: Path) -> None:
    """Add a user, and a client's certificate to those that are trusted."""
    from tests.opcua_clients import client_certificate

    _, certificate = client_certificate(folder / "client")
    trusted = folder / "data" / "pki" / "trusted"
    trusted.mkdir(parents=True, exist_ok=True)
    (trusted / "line.pem").write_bytes(certificate.read_bytes())
    UserStore(folder / "data" / "users.json").add(USER, PASSWORD, Role.OPERATOR)


def environment() -> dict[str, str]:
    """Return the environment of a supervisor that is not under systemd."""
    hidden = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")
    return {key: value for key, value in os.environ.items() if key not in hidden}


def processes_of(run_folder: Path, *words: bytes) -> list[int]:
    """List the living processes that were given this run folder, and these words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().split(b"\0")
                if {str(run_folder).encode(), *words} <= set(command):
                    found.append(int(entry.name))
    return found
