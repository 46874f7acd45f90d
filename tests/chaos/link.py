"""The wire between a PLC and the OPC UA server, to be cut: a TCP proxy that drops connections, or stalls them first."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER such that closing sends a reset at once."""


class Link:
    """Forwards from a port of its own to the server's."""

    def __init__(self, target: int) -> None:
        """Name the port of 127.0.0.1 that is forwarded to."""
        self._target, self.port = target, 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Hang up on everyone."""
        if self._server is not None:
            self._server.close()
        self.drop()

    @property
    def is_used(self) -> bool:
        """Tell whether a connection is open."""
        return bool(self._writers)

    def drop(self) -> int:
        """Cut every connection, as an unplugged switch's ends find it later: by a reset. Return how many there were."""
        count = len(self._writers) // 2
        for writer in list(self._writers):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        return count

    async def stall(self, seconds: float) -> int:
        """Let nothing through either way for a while, then cut; return how many connections there were at the end."""
        self._flowing.clear()
        try:
            await asyncio.sleep(seconds)
            return self.drop()
        finally:
            self._flowing.set()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, there[1]}
        self._writers |= ends
        ways = [
            asyncio.create_task(self._forward(reader, there[1])),
            asyncio.create_task(self._forward(there[0], writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in ends:
                end.close()
            self._writers -= ends

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
