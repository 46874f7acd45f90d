"""How the processes of a station talk: JSON lines over a Unix socket, calls and streams in both directions.

Both ends are alike: a `Peer` calls the other's methods and answers calls with its own. Nothing is pickled; pixels
travel as files. The socket lies in a folder that only the station's user may enter: that is what authenticates.

A line is one object: `{"id", "call", "params"}` asks, `{"id", "result"}` or `{"id", "error"}` answers, `{"id", "item"}`
and `{"id", "end"}` are a stream, `{"id", "cancel"}` ends one from the reader's side.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from judo_edge.errors import InputError, JudoEdgeError, OutputError, StationError, first_line

MAX_LINE = 32 << 20
"""Bytes of one message: a live photo in base64 fits."""
QUEUED_ITEMS = 10_000
"""Items of one stream that may wait for a reader before the connection is closed on it."""
LONGEST_SOCKET_PATH = 100
"""Bytes; the system itself ends at 108."""

_log = logging.getLogger(__name__)

Handlers = Mapping[str, Callable[..., Any]]
"""Methods by name. A coroutine function answers once; an async generator function is a stream."""
_Message = dict[str, Any]


class LostError(StationError):
    """The other end has gone."""

    def __init__(self, what: str = "the other process") -> None:
        """Say who has gone."""
        super().__init__(f"{what} has gone", "a running process", "wait until it was started again", number=-90)


class Peer:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handlers: Handlers) -> None:
        """Take an open connection; `run` must be running while it is used."""
        self._reader, self._writer, self._handlers = reader, writer, handlers
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, asyncio.Queue[_Message | None]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._is_open = True
        self._on_close: list[Callable[[], None]] = []

    def use(self, handlers: Handlers) -> None:
        """Answer calls by other methods from now on."""
        self._handlers = handlers

    def on_close(self, call: Callable[[], None]) -> None:
        """Have something called once when the other end has gone."""
        self._on_close.append(call)

    @property
    def is_open(self) -> bool:
        """Tell whether the other end is still there."""
        return self._is_open

    async def run(self) -> None:
        """Read until the other end goes; then every open call raises LostError."""
        try:
            while line := await self._reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError, asyncio.LimitOverrunError, asyncio.QueueFull) as error:
            _log.warning("connection closed: %s", first_line(error))
        finally:
            self._close()

    async def call(self, method: str, **params: Any) -> Any:
        """Ask the other end and return its answer; raises what it raised, or LostError."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send({"id": number, "call": method, "params": params})
            return await answer
        finally:
            self._answers.pop(number, None)

    async def stream(self, method: str, **params: Any) -> AsyncGenerator[Any, None]:
        """Ask the other end and yield its answers; raises what it raised, or LostError."""
        number = next(self._ids)
        queue = self._streams[number] = asyncio.Queue(QUEUED_ITEMS)
        try:
            await self._send({"id": number, "call": method, "params": params})
            while (message := await queue.get()) is not None and "end" not in message:
                if "error" in message:
                    raise error_from_record(message["error"])
                yield message["item"]
            if message is None:
                raise LostError
        finally:
            self._streams.pop(number, None)
            if self._is_open:
                self._write({"id": number, "cancel": True})

    async def close(self) -> None:
        """Hang up."""
        self._close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _take(self, message: _Message) -> None:
        number = message["id"]
        if "call" in message:
            task = asyncio.create_task(self._answer(number, message["call"], message["params"]))
            self._tasks[number] = task
            task.add_done_callback(lambda _: self._tasks.pop(number, None))
        elif "cancel" in message:
            if task_or_none := self._tasks.get(number):
                task_or_none.cancel()
        elif (queue := self._streams.get(number)) is not None:
            queue.put_nowait(message)
        elif (answer := self._answers.get(number)) is not None and not answer.done():
            _settle(answer, message)

    async def _answer(self, number: int, method: str, params: _Message) -> None:
        try:
            handler = self._handlers.get(method)
            if handler is None:
                raise InputError(f"unknown method {method!r}", f"one of {', '.join(sorted(self._handlers))}")
            if inspect.isasyncgenfunction(handler):
                await self._answer_stream(number, handler(**params))
            else:
                outcome: Awaitable[Any] = handler(**params)
                await self._send({"id": number, "result": await outcome})
        except LostError:
            pass
        except Exception as error:
            with contextlib.suppress(LostError):
                await self._send({"id": number, "error": record_from_error(error)})

    async def _answer_stream(self, number: int, items: AsyncIterator[Any]) -> None:
        async for item in items:
            await self._send({"id": number, "item": item})
        await self._send({"id": number, "end": True})

    async def _send(self, message: _Message) -> None:
        if not self._is_open:
            raise LostError
        self._write(message)
        try:
            await self._writer.drain()
        except OSError as error:
            self._close()
            raise LostError from error

    def _write(self, message: _Message) -> None:
        self._writer.write(json.dumps(message, ensure_ascii=False, allow_nan=False).encode() + b"\n")

    def _close(self) -> None:
        self._is_open = False
        self._writer.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LostError())
                answer.exception()  # a call whose question could not be sent never comes to await it
        for queue in self._streams.values():
            while queue.full():
                queue.get_nowait()
            queue.put_nowait(None)
        for task in list(self._tasks.values()):
            task.cancel()
        calls, self._on_close = self._on_close, []
        for call in calls:
            call()


def _settle(answer: asyncio.Future[Any], message: _Message) -> None:
    if "error" in message:
        answer.set_exception(error_from_record(message["error"]))
    else:
        answer.set_result(message["result"])


async def connect(path: Path, handlers: Handlers | None = None) -> tuple[Peer, asyncio.Task[None]]:
    """Connect to a socket; returns the peer and the task that reads for it. LostError when nobody listens."""
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
    except OSError as error:
        raise LostError(f"the station at {path}") from error
    peer = Peer(reader, writer, handlers or {})
    return peer, asyncio.create_task(peer.run())


async def serve(path: Path, on_peer: Callable[[Peer], None], handlers_of: Callable[[], Handlers]) -> asyncio.Server:
    """Listen on a socket that only this user may use; `on_peer` is told of each connection before it is read.

    Raises OutputError when the socket cannot be made.
    """
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise OutputError(f"the socket's path {path} is too long", f"{LONGEST_SOCKET_PATH} bytes", "set run_folder")

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, handlers_of())
        on_peer(peer)
        await peer.run()

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(accepted, path, limit=MAX_LINE)
    path.chmod(0o600)
    return server


def record_from_error(error: Exception) -> _Message:
    """Return what is told of an error; what is no fault of the user is logged as a bug."""
    if isinstance(error, JudoEdgeError):
        number = error.number if isinstance(error, StationError) else -1
        return {"found": error.found, "wanted": error.wanted, "action": error.action, "number": number}
    _log.error("internal fault", exc_info=error)
    return {"found": f"internal fault: {type(error).__name__}: {first_line(error)}", "number": -99}


def error_from_record(record: _Message) -> StationError:
    """Return the error that the other end told of."""
    found, wanted, action = (str(record.get(key, "")) for key in ("found", "wanted", "action"))
    return StationError(found, wanted, action, int(record.get("number", -1)))
