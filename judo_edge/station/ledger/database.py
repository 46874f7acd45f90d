"""Opens the ledger's file: checked, set to lose nothing at a power cut, and put aside when it is damaged.

Knows SQLite and its settings, nothing of jobs or results.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from judo_edge.errors import ConfigError, OutputError
from judo_edge.files import output_errors, sync_to_disk
from judo_edge.station.ledger.schema import SCHEMA, VERSION
from judo_edge.station.results import utc_now

BUSY_SECONDS = 10.0
"""How long a connection waits for another process that holds the file, such as a backup."""
_SIDES = ("-wal", "-shm")


class Opened(NamedTuple):
    """A ledger's connection for writing."""

    connection: sqlite3.Connection
    damaged: Path | None
    """Where a file that could not be read now lies; None where nothing was wrong."""


def open_database(path: Path) -> Opened:
    """Open or make the file and check it; a damaged one is moved beside and a new one begun.

    Raises OutputError when the file cannot be opened for writing, ConfigError when a later version wrote it.
    """
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Opened(_checked(path), None)
    except sqlite3.OperationalError as error:  # not to be opened now, which says nothing of what is in it
        raise OutputError(f"{path} cannot be opened: {error}", "a file that may be written") from error
    except sqlite3.DatabaseError:
        damaged = _moved_aside(path)
        return Opened(_checked(path), damaged)


def connection_for_reading(path: Path) -> sqlite3.Connection:
    """Open the file for queries; it sees every commit, waits for none, and can change nothing."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _checked(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _configure(connection)
        found = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            raise sqlite3.DatabaseError(f"quick_check: {found[0]}")
        _bring_up_to_date(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 1000")
    connection.execute("PRAGMA journal_size_limit = 4194304")


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        wanted = f"version {VERSION} or earlier"
        raise ConfigError(f"{path} is of version {version}", wanted, "run the judo-edge that wrote it, or a later one")
    if version == 0:
        connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
        sync_to_disk(path.parent)


def _moved_aside(path: Path) -> Path:
    stamp = utc_now()[:26].replace(":", "").replace(".", "-")
    aside = path.with_name(f"{path.stem}-damaged-{stamp}{path.suffix}")
    with output_errors(path):
        for side in ("", *_SIDES):
            if (source := path.with_name(path.name + side)).exists():
                source.rename(aside.with_name(aside.name + side))
        sync_to_disk(path.parent)
    return aside
