"""`judo-edge run`: all processes of one station, from start to clean stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from judo_edge.errors import InputError
from judo_edge.station.config import StationConfig
from judo_edge.station.results import ProcessHealth
from judo_edge.station.supervisor.folders import LOG_NAME, make_folders, only_supervisor, run_folder_of
from judo_edge.station.supervisor.hublink import HubLink
from judo_edge.station.supervisor.logbook import Logbook
from judo_edge.station.supervisor.notify import Notifier, notifier_from_environment
from judo_edge.station.supervisor.progress import Progress
from judo_edge.station.supervisor.supervised import Supervised
from judo_edge.station.supervisor.table import MODULE, STOP_ORDER, ProcessSpec, table_of

ASK_SECONDS = 1.0
SUPERVISOR = "supervisor"


class Supervisor:
    """Runs a process table; `run` returns after a clean stop."""

    def __init__(
        self, table: tuple[ProcessSpec, ...], run_folder: Path, logbook: Logbook, notifier: Notifier, is_automatic: bool
    ) -> None:
        """Start nothing yet."""
        self._places = {spec.name: Supervised(spec, logbook, self._changed) for spec in table}
        self._logbook, self._notifier = logbook, notifier
        self._link = HubLink(run_folder, self.restart)
        self._progress = Progress(notifier, is_automatic)
        self._untold, self._stop, self._hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._hub_pid = 0

    @property
    def processes(self) -> tuple[ProcessHealth, ...]:
        """Return how every process is."""
        return tuple(place.health for place in self._places.values())

    def ask_to_stop(self) -> None:
        """Begin a clean stop; asked twice, it hurries and kills what still runs."""
        (self._hurry if self._stop.is_set() else self._stop).set()

    async def restart(self, name: str) -> None:
        """Kill and start a process, by its name or a camera's own; InputError for an unknown one."""
        place = self._places.get(name) or self._places.get(f"camera.{name}")
        if place is None:
            raise InputError(f"no process {name!r}", f"one of {', '.join(self._places)}")
        await place.restart("a restart was asked for")

    async def run(self) -> None:
        """Run until `ask_to_stop`; then end the processes in order."""
        running = [asyncio.create_task(place.run()) for place in self._places.values()]
        watching = [asyncio.create_task(one) for one in (self._follow_hub(), self._tell_hub())]
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({*running, *watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        self._log("INFO", "stopping")
        self._notifier.send(STOPPING="1", STATUS="stopping")
        watching[0].cancel()
        hurrying = asyncio.create_task(self._kill_when_hurried())
        await self._link.tell_stop()
        await self._stop_in_order()
        hurrying.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        stopping.cancel()
        watching[1].cancel()
        outcomes = await asyncio.gather(*watching, *running, return_exceptions=True)
        await self._link.close()
        self._raise_fault(outcomes)
        self._log("INFO", "stopped")

    def _raise_fault(self, outcomes: Sequence[object]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _kill_when_hurried(self) -> None:
        await self._hurry.wait()
        for place in self._places.values():
            await place.stop(0.0)

    async def _stop_in_order(self) -> None:
        for roles in STOP_ORDER:
            places = [place for place in self._places.values() if place.spec.role in roles]
            await asyncio.gather(*(place.stop() for place in places))

    async def _follow_hub(self) -> None:
        """Ask the hub once a second how it is; a hub whose heartbeat stands still is started again."""
        hub = self._places.get("hub")
        while hub is not None:
            if hub.health.pid != self._hub_pid:
                self._hub_pid = hub.health.pid
                self._progress.hub_started()
                self._changed()
            self._progress.take(await self._link.status())
            if self._progress.is_stuck() and hub.health.pid:
                self._progress.hub_started()
                hub.kill("its heartbeat stands still: it delivers no verdicts")
            await asyncio.sleep(ASK_SECONDS)
        await asyncio.Event().wait()

    async def _tell_hub(self) -> None:
        """Tell the hub of every change, and again until it has taken it."""
        while True:
            await self._untold.wait()
            self._untold.clear()
            if not await self._link.tell(self.processes):
                self._untold.set()
                await asyncio.sleep(ASK_SECONDS)

    def _changed(self) -> None:
        self._untold.set()

    def _log(self, level: str, text: str) -> None:
        self._logbook.write(SUPERVISOR, level, text)


def run_station(config: StationConfig, config_file: Path, module: str = MODULE) -> None:
    """Run a station until SIGTERM or Ctrl-C; `module` is what runs its processes, for tests.

    StationError when it runs already, ConfigError or OutputError when its folders cannot be used.
    """
    run_folder = run_folder_of(config)
    make_folders(config, run_folder)
    with only_supervisor(config.data, run_folder):
        logbook = Logbook(config.data / LOG_NAME, in_journal="JOURNAL_STREAM" in os.environ)
        try:
            table = table_of(config, config_file, run_folder, module)
            asyncio.run(_supervised(config, table, run_folder, logbook))
        finally:
            logbook.close()


async def _supervised(
    config: StationConfig, table: tuple[ProcessSpec, ...], run_folder: Path, logbook: Logbook
) -> None:
    notifier = notifier_from_environment()
    supervisor = Supervisor(table, run_folder, logbook, notifier, config.station.is_automatic)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.ask_to_stop)
    logbook.write(SUPERVISOR, "INFO", f"station {config.station.name}: {', '.join(spec.name for spec in table)}")
    await supervisor.run()
