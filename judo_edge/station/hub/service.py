"""The hub's end of the wire: who says hello becomes a worker of the station, everybody may use its methods."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from judo_edge.errors import StationError
from judo_edge.station.hub.station import Station
from judo_edge.station.hub.workers import PeerEye, PeerJudge
from judo_edge.station.results import ProcessHealth, Severity
from judo_edge.station.serving import handlers_of_station
from judo_edge.station.wire import Handlers, Peer, serve
from judo_edge.station.workers import SOCKET_NAME, Spooled

_log = logging.getLogger(__name__)


class Service:
    """Serves a station at the socket in its run folder."""

    def __init__(self, station: Station, run_folder: Path) -> None:
        """Take the station; nothing is opened before `open`."""
        self._station, self._run_folder = station, run_folder
        self._peers: set[Peer] = set()
        self._server: Any = None

    async def open(self) -> None:
        """Listen; OutputError when the socket cannot be made."""
        self._server = await serve(self._run_folder / SOCKET_NAME, self._on_peer, dict)

    async def close(self) -> None:
        """Listen no more and hang up."""
        if self._server is not None:
            self._server.close()
        for peer in list(self._peers):
            await peer.close()
        (self._run_folder / SOCKET_NAME).unlink(missing_ok=True)

    def _on_peer(self, peer: Peer) -> None:
        line = _Line(self._station, peer)
        peer.use({**handlers_of_station(self._station), **line.handlers()})
        peer.on_close(line.gone)
        peer.on_close(lambda: self._peers.discard(peer))
        self._peers.add(peer)


class _Line:
    """One connection."""

    def __init__(self, station: Station, peer: Peer) -> None:
        self._station, self._peer, self._name = station, peer, ""
        self._leave: Any = lambda: None

    def handlers(self) -> Handlers:
        """Return what workers and the supervisor call."""
        return {
            "hello": self.hello,
            "frame": self.frame,
            "camera_state": self.camera_state,
            "processes": self.processes,
            "stopping": self.stopping,
            "sink_state": self.sink_state,
        }

    async def hello(self, role: str, name: str, pid: int = 0) -> None:
        """Take who calls for what it says it is; the socket's folder has let nobody else in."""
        crew, self._name = self._station.crew, name
        _log.info("%s is there", name if role == name else f"{role} {name}")
        if role == "camera":
            eye = PeerEye(self._peer)
            crew.join_eye(name, eye)
            self._leave = lambda: crew.leave_eye(name, eye)
        elif role == "inspector":
            judge = PeerJudge(self._peer)
            crew.join_judge(judge)
            self._leave = lambda: crew.leave_judge(judge)
        elif role == "supervisor":
            restart = self._restart
            crew.follow(restart)
            self._leave = lambda: crew.unfollow(restart)

    async def frame(self, camera: str, spooled: dict[str, Any], missed: int = 0) -> str:
        """Take a part that a camera saw by itself."""
        photo = Spooled.model_validate(spooled)
        if photo.file and Path(photo.file).name != photo.file:
            raise StationError(f"spool file {photo.file!r}", "a file name without a folder")
        return (await self._station.frame(camera, photo, missed)).job_id

    async def camera_state(self, camera: str, code: int, text: str) -> None:
        """Take what a camera says of itself."""
        self._station.crew.camera_state(camera, code, text)

    async def processes(self, processes: Sequence[dict[str, Any]]) -> None:
        """Take what the supervisor says of the processes."""
        self._station.crew.processes = tuple(ProcessHealth.model_validate(one) for one in processes)

    async def stopping(self) -> None:
        """Hear from the supervisor that all processes are about to end: accept nothing more, miss nobody."""
        self._station.steward.is_stopping = True
        self._station.flow.is_closing = True

    async def sink_state(self, text: str) -> None:
        """Take what keeps a façade from handing results on; empty: nothing does."""
        condition = f"sink.{self._name}"
        self._station.tell(condition, Severity.WARNING, text)
        self._leave = lambda: self._station.conditions.clear(condition)

    def gone(self) -> None:
        """Note that who called has gone."""
        self._leave()

    async def _restart(self, name: str) -> None:
        await self._peer.call("restart", name=name)
