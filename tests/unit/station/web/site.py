"""A page over a station in memory, asked without any socket."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from judo_edge.station.users import Role, UserStore
from judo_edge.station.web.app import app_from_desk, desk_from_station
from judo_edge.station.web.settings import WebSettings
from tests.memory_station import MemoryStation

PASSWORD = "correct horse"
ORIGIN = "http://127.0.0.1:8080"
NAMES = frozenset({"127.0.0.1", "localhost"})
USERS = {"eva": Role.ENGINEER, "ole": Role.OPERATOR}


class Site:
    """Station, users and application; `eva` is an engineer, `ole` an operator."""

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        self.station = MemoryStation(folder / "station")
        (folder / "users.json").write_bytes(_users_file())
        self.users = UserStore(folder / "users.json")
        settings = WebSettings("127.0.0.1", 8080, NAMES, folder / "uploads", certificate, certificate)
        self.desk = desk_from_station(self.station, self.users, settings)
        self.app = app_from_desk(self.desk)

    def client(self, user: str = "", **headers: str) -> httpx.AsyncClient:
        """Return a browser, signed in if a user is named."""
        client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=ORIGIN)  # type: ignore[arg-type]
        if user:
            session_id = self.desk.sessions.begin(user, self.users.stamp(user))
            client.cookies.set(self.desk.cookie, session_id)
            session = self.desk.sessions.find(session_id, is_use=False)
            assert session is not None
            client.headers.update({"Origin": ORIGIN, "X-CSRF-Token": session.csrf})
        client.headers.update(headers)
        return client

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Listen to the station, as the application's lifespan does."""
        task = asyncio.create_task(self.desk.watch.run())
        try:
            await until(lambda: not self.desk.watch.is_away)
            yield
        finally:
            task.cancel()

    async def stream(self, path: str, user: str, take: Callable[[str], Awaitable[bool]]) -> int:
        """Read a stream piece by piece until `take` says that it is enough; returns the HTTP status."""
        client, status, is_enough = self.client(user), 0, asyncio.Event()
        request = client.build_request("GET", path)
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        cookie = "; ".join(f"{one.name}={one.value}" for one in client.cookies.jar)
        scope: dict[str, Any] = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET"}
        scope |= {"scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
        scope |= {"headers": [*headers, (b"cookie", cookie.encode())], "client": ("127.0.0.1", 1)}
        scope |= {"server": ("127.0.0.1", 8080)}

        async def send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            if message["type"] == "http.response.body" and await take(message["body"].decode()):
                is_enough.set()

        async def receive() -> Any:
            await is_enough.wait()
            return {"type": "http.disconnect"}

        task = asyncio.create_task(self.app(scope, receive, send))  # type: ignore[arg-type]
        await asyncio.wait_for(
            asyncio.wait({task, asyncio.create_task(is_enough.wait())}, return_when="FIRST_COMPLETED"), 30
        )
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return status


@cache
def _users_file() -> bytes:
    """Return the file of the two users; each hash takes its time, so it is made once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "users.json"
        users = UserStore(path)
        for name, role in USERS.items():
            users.add(name, PASSWORD, role)
        return path.read_bytes()


async def until(is_true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition."""

    async def wait() -> None:
        while not is_true():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), seconds)
