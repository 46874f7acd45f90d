"""The one thread that changes the ledger. What waits at the same time is committed together: one sync for all of it.

A work that fails takes nothing of the others with it. On a full disk the reserve is given up and all is tried again.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from judo_edge.errors import StationError, first_line
from judo_edge.station.ledger.reserve import Reserve

NOT_DURABLE = -80
"""Number of the StationError for what could not be written."""
MAX_TOGETHER = 64
"""Works of one commit."""
Work = Callable[[sqlite3.Connection], Any]


class LedgerError(StationError):
    """Something could not be made durable."""

    def __init__(self, path: Path, why: str) -> None:
        """Name the file and what SQLite said."""
        action = "free space, then try again"
        super().__init__(f"{path} cannot be written: {why}", "room and a disk that works", action, NOT_DURABLE)


class _Task(NamedTuple):
    work: Work
    outcome: Future[Any]


class Writer:
    """Runs works in a thread of its own, in order."""

    def __init__(self, connection: sqlite3.Connection, path: Path, reserve: Reserve) -> None:
        """Start the thread; the connection is its own from now on."""
        self._connection, self._path, self._reserve = connection, path, reserve
        self._queue: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> Future[Any]:
        """Have something done; the future is settled when it is on the disk. LedgerError after `close`."""
        if self._is_closed:
            raise LedgerError(self._path, "it was closed")
        task = _Task(work, Future())
        self._queue.put(task)
        return task.outcome

    def close(self) -> None:
        """Do what waits, then end."""
        self._is_closed = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        task = self._queue.get()
        while task is not None:
            batch = [task]
            task = self._more(batch)
            self._do([one for one in batch if one.outcome.set_running_or_notify_cancel()])
            task = self._queue.get() if task is batch[0] else task

    def _more(self, batch: list[_Task]) -> _Task | None:
        """Take what waits already; returns None at the end, else the batch's first."""
        while len(batch) < MAX_TOGETHER:
            try:
                task = self._queue.get_nowait()
            except queue.Empty:
                break
            if task is None:
                return None
            batch.append(task)
        return batch[0]

    def _do(self, batch: Sequence[_Task]) -> None:
        try:
            outcomes = self._written(batch)
        except BaseException as error:
            failure = LedgerError(self._path, first_line(error))
            failure.__cause__ = error
            outcomes = [failure] * len(batch)
        for task, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                task.outcome.set_exception(outcome)
            else:
                task.outcome.set_result(outcome)

    def _written(self, batch: Sequence[_Task]) -> list[Any]:
        """Commit a batch; on a full disk once more, in the room that was held back."""
        try:
            return self._transaction(batch)
        except sqlite3.Error as error:
            if not (_is_full(error) and self._reserve.is_held):
                raise
        self._reserve.release()
        return self._transaction(batch)

    def _transaction(self, batch: Sequence[_Task]) -> list[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._one(task.work) for task in batch]
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return outcomes

    def _one(self, work: Work) -> Any:
        """Return a work's outcome, or its error, which undoes it alone; a full disk is everybody's."""
        self._connection.execute("SAVEPOINT one")
        try:
            outcome = work(self._connection)
        except Exception as error:
            if not self._connection.in_transaction or (isinstance(error, sqlite3.Error) and _is_full(error)):
                raise
            self._connection.execute("ROLLBACK TO one")
            outcome = LedgerError(self._path, first_line(error)) if isinstance(error, sqlite3.Error) else error
        self._connection.execute("RELEASE one")
        return outcome


def _is_full(error: sqlite3.Error) -> bool:
    """Tell whether more room may help; Python 3.10 knows SQLite's codes only by their texts."""
    return any(text in str(error) for text in ("disk is full", "disk I/O error"))
