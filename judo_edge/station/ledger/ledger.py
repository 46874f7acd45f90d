"""The ledger: what must outlast a power cut, written by one thread and read by others: no loop waits for a disk.

What a method wrote is on the disk when it returns. Knows nothing of states, deadlines or cameras.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from judo_edge.errors import first_line
from judo_edge.station.ledger.database import connection_for_reading, open_database
from judo_edge.station.ledger.reserve import Reserve
from judo_edge.station.ledger.writer import LedgerError, Writer

__all__ = ["FILE_NAME", "RESERVE_NAME", "Ledger", "LedgerError"]

P = ParamSpec("P")
T = TypeVar("T")

FILE_NAME, RESERVE_NAME = "ledger.sqlite", "ledger.reserve"
_READERS = 2


class Ledger:
    """Jobs, results and what belongs to them; `write` and `read` run the functions of `writing` and `reading`."""

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        """Open the ledger in a folder and hold room back; raises OutputError or ConfigError when that cannot be."""
        self.path = folder / FILE_NAME
        self.boot = uuid.uuid4().hex
        self._reserve = Reserve(folder / RESERVE_NAME, reserve_bytes)
        self._connection, self.damaged = open_database(self.path)
        self._reserve.make()
        self._writer = Writer(self._connection, self.path, self._reserve)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="ledger-reader")
        self._local, self._opened = threading.local(), list[sqlite3.Connection]()

    async def write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do a work on the database; when this returns it is on the disk. LedgerError when it cannot be."""
        future = self._writer.submit(lambda connection: work(connection, *args, **kwargs))
        outcome: T = await asyncio.wrap_future(future)
        return outcome

    async def read(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a query beside the writer; LedgerError when the file cannot be read."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, lambda: self._read(lambda one: work(one, *args, **kwargs)))

    async def turn(self) -> None:
        """Wait for the writer's turn: returns only while verdicts can be written."""
        with contextlib.suppress(LedgerError):
            await asyncio.wrap_future(self._writer.submit(lambda _: None))

    async def hold_reserve(self) -> bool:
        """Make the reserve again where it is gone and there is room; tells whether it is held."""
        return await asyncio.to_thread(self._reserve.make)

    def close(self) -> None:
        """Finish what was begun, move everything into the one file, and close it."""
        self._writer.close()
        self._readers.shutdown(wait=True)
        for connection in self._opened:
            connection.close()
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection: Any = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connection_for_reading(self.path)
            self._opened.append(connection)
        try:
            return work(connection)
        except sqlite3.Error as error:
            raise LedgerError(self.path, first_line(error)) from error
