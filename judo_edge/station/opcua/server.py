"""The server: an address space over a station, filled from its events.

While the station's core is away the server stays up: methods answer an error number, tags are not ready. Afterwards
results that came meanwhile are told in order, each once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from asyncua import Server

from judo_edge import __version__
from judo_edge.errors import JudoEdgeError, OutputError
from judo_edge.station.api import StationApi
from judo_edge.station.config import StationConfig
from judo_edge.station.opcua import events
from judo_edge.station.opcua.basetypes import EPOCH
from judo_edge.station.opcua.conditions import Conditions
from judo_edge.station.opcua.configurations import ConfigurationManagement
from judo_edge.station.opcua.events import Emitter, structures
from judo_edge.station.opcua.machinery import MachineryResults
from judo_edge.station.opcua.nodeset import add_types
from judo_edge.station.opcua.plcwatch import watch_plc
from judo_edge.station.opcua.recipes import RecipeManagement
from judo_edge.station.opcua.records import external_id, internal_id_of
from judo_edge.station.opcua.resultmanagement import ResultManagement
from judo_edge.station.opcua.security import application_uri, secure
from judo_edge.station.opcua.space import Space
from judo_edge.station.opcua.tags import Tags
from judo_edge.station.opcua.types import JobIdDataType
from judo_edge.station.opcua.vision import StateMachine, add_system, link_confirm_all
from judo_edge.station.results import (
    CHALLENGE,
    Condition,
    EventKind,
    Recipe,
    Result,
    ResultQuery,
    StationEvent,
    Status,
)
from judo_edge.station.states import State

RETRY, SILENCE = 0.5, 3.5
"""Seconds until the station is asked again; without a heartbeat until it counts as away."""
SESSION_SECONDS = 60.0
"""Longest life of a session whose connection has gone: until then its subscriptions gather events in memory."""
_JOB_EVENTS = {
    EventKind.JOB_STARTED: (events.JOB_STARTED, "job started"),
    EventKind.ACQUISITION_DONE: (events.ACQUISITION_DONE, "the part may leave"),
    EventKind.READY: (events.READY, "ready for the next job"),
}
_log = logging.getLogger(__name__)


class OpcuaServer:
    """One server. `start`, then `stop`."""

    def __init__(self, config: StationConfig, station: StationApi) -> None:
        """Take the settings and the station, near or far."""
        self._config, self.server = config, Server()
        self._space = Space(self.server, config, station)
        self._station = station
        self._emitter = Emitter(self._space)
        self._states = StateMachine(self._space, self._emitter)
        self._recipes, self._results = RecipeManagement(self._space), ResultManagement(self._space)
        self._machinery, self._tags = MachineryResults(self._space), Tags(self._space)
        self._configurations = ConfigurationManagement(self._space)
        self._conditions = Conditions(self._space, self._emitter)
        self._tasks: list[asyncio.Task[None]] = []
        self._last: int | None = None
        self.port = config.opcua.port

    async def build(self) -> None:
        """Make the address space; nothing listens yet."""
        config = self._config.opcua
        await self.server.init()
        self.server.iserver.max_session_timeout_ms = SESSION_SECONDS * 1000
        await self.server.set_application_uri(application_uri(self._config))
        nodesets = [path and self._config.path(path) for path in (config.nodeset, config.result_nodeset)]
        await add_types(self.server, *nodesets)
        await add_system(self._space)
        await self._emitter.prepare()
        for part in (self._states, self._recipes, self._results, self._configurations, self._machinery):
            await part.prepare()
        await self._conditions.prepare()
        await link_confirm_all(self._space, self._conditions.confirm_all)
        await self._tags.prepare()

    async def start(self) -> None:
        """Listen, and follow the station; OutputError when the port cannot be had."""
        await self.build()
        await self._listen()
        self._tasks = [
            asyncio.create_task(self._follow()),
            asyncio.create_task(watch_plc(self._space, self._tags, self._conditions)),
        ]

    async def stop(self) -> None:
        """Hang up on every client."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.stop()

    @property
    def url(self) -> str:
        """Return what clients connect to."""
        return str(self.server.endpoint.geturl())

    async def _listen(self) -> None:
        config, server = self._config.opcua, self.server
        self.port = config.port or _free_port(config.host)
        shown = config.advertised or config.host
        server.set_endpoint(f"opc.tcp://{f'[{shown}]' if ':' in shown else shown}:{self.port}/judo-edge/")
        server.socket_address = (config.host, self.port)
        server.set_match_discovery_client_ip(not config.advertised)
        server.set_match_discovery_endpoint_url(not config.advertised)
        server.set_server_name(f"judo-edge {self._config.station.name}")
        server.product_uri, server.manufacturer_name = "urn:judo-edge", "judo-edge"
        await secure(server, self._config)
        await server.set_build_info("urn:judo-edge", "judo-edge", "judo-edge", __version__, "0", EPOCH)
        try:
            await server.start()
        except OSError as error:
            found = f"cannot listen on {config.host}:{self.port}: {error.strerror or error}"
            raise OutputError(found, action="set another port or host in [opcua]") from error
        _log.info("OPC UA at %s", self.url)

    # -- following the station ---------------------------------------------------------------------------------------
    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_once()
            except (JudoEdgeError, OSError, asyncio.TimeoutError) as error:
                _log.info("the station is away: %s", error)
            except Exception:
                _log.exception("fault while following the station")
            await self._away()
            await asyncio.sleep(RETRY)

    async def _follow_once(self) -> None:
        """Follow events until the station goes; they are asked for before the state, so nothing falls between."""
        queue: asyncio.Queue[StationEvent | None] = asyncio.Queue()
        reading = asyncio.create_task(self._read(queue))
        try:
            await asyncio.sleep(0)
            status = await asyncio.wait_for(self._station.status(), SILENCE)
            await self._resync(status)
            while (event := await asyncio.wait_for(queue.get(), SILENCE)) is not None:
                await self._take(event)
            await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, queue: asyncio.Queue[StationEvent | None]) -> None:
        try:
            async for event in self._station.events():
                queue.put_nowait(event)
        finally:
            queue.put_nowait(None)

    async def _resync(self, status: Status) -> None:
        if self._last is None or status.last_number < self._last:
            self._last = status.last_number
        await self._results_until(status.last_number)  # before Ready: a PLC must not take one for the next part's
        await self._show(status)
        await self._states.show(status)
        await self._recipes.show(await self._station.recipes())

    async def _away(self) -> None:
        await self._states.show_away()
        await self._tags.show_away()

    async def _show(self, status: Status) -> None:
        await self._tags.show(status)
        await self._conditions.show(status.conditions)

    async def _take(self, event: StationEvent) -> None:
        kind, data = event.kind, event.data
        if kind is EventKind.HEARTBEAT:
            await self._show(Status.model_validate(data))
        elif kind is EventKind.RESULT:
            await self._result(Result.model_validate(data))
        elif kind is EventKind.TRANSITION:
            await self._tags.show_state(State(str(data["target"])))
            await self._states.moved(event)
        elif kind in _JOB_EVENTS:
            await self._job_event(event)
        elif kind is EventKind.CONDITION:
            await self._conditions.changed(Condition.model_validate(data))
        elif kind is EventKind.RECIPE_PREPARED:
            await self._recipe_prepared(Recipe.model_validate(data))
        elif kind in (EventKind.ERROR, EventKind.ERROR_RESOLVED):
            await (self._states.failed(event) if kind is EventKind.ERROR else self._states.recovered(event))
        elif kind is EventKind.LATE:
            await self._inform(events.INFORMATION, f"late: {data.get('decision')} {data.get('reason')}", data)
        elif kind is EventKind.MISSED:
            await self._inform(events.DIAGNOSTIC_INFO, f"missed trigger: {data.get('reason')}", data)

    async def _job_event(self, event: StationEvent) -> None:
        job_id = str(event.data.get("job_id", ""))
        if event.kind is EventKind.JOB_STARTED:
            await self._tags.job_started(job_id)
        number, words = _JOB_EVENTS[event.kind]
        await self._emitter.emit(number, words, structures(JobId=JobIdDataType(job_id)), at=event.at)

    async def _inform(self, kind: int, words: str, data: dict[str, Any]) -> None:
        await self._emitter.emit(kind, words, structures(JobId=JobIdDataType(str(data.get("job_id", "")))))

    async def _recipe_prepared(self, recipe: Recipe) -> None:
        fields = structures(InternalId=internal_id_of(recipe), ExternalId=external_id(recipe.external_id))
        await self._emitter.emit(events.RECIPE_PREPARED, f"{recipe.external_id} is ready", fields)
        await self._recipes.show(await self._station.recipes())

    async def _result(self, result: Result) -> None:
        last = self._last or 0
        if result.number > last + 1:
            await self._results_until(result.number)
        elif result.number == last + 1:
            await self._publish(result)

    async def _results_until(self, number: int) -> None:
        """Tell the results that events did not bring."""
        while (self._last or 0) < number:
            found = await self._station.results(ResultQuery(after=self._last or 0, limit=1000))
            for result in found:
                await self._publish(result)
            if not found:
                self._last = number

    async def _publish(self, result: Result) -> None:
        self._last = result.number
        await self._results.show(result)
        if result.origin != CHALLENGE:  # a PLC must not take a master's verdict for that of the part before it
            await self._machinery.show(result)
            await self._tags.show_result(result)
        fields = events.fields_of_result(self._results.record(result))
        words = f"{result.decision.value}: {result.reason}"
        await self._emitter.emit(events.RESULT_READY, words, fields, at=result.created)


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
