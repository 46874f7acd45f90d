"""Where a running station lives, and that only one supervisor runs it. Knows no process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from judo_edge.errors import ConfigError, StationError
from judo_edge.files import output_errors
from judo_edge.station.config import StationConfig
from judo_edge.station.wire import LONGEST_SOCKET_PATH
from judo_edge.station.workers import SOCKET_NAME, SPOOL_NAME

LOCK_NAME, LOG_NAME = "supervisor.lock", "log"


def run_folder_of(config: StationConfig, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of socket and photos under way, absolute.

    The file's `run_folder`, else systemd's RUNTIME_DIRECTORY, else `judo-edge/NAME` below XDG_RUNTIME_DIR, else `run`
    in the data folder. ConfigError when the socket's path would be too long.
    """
    folder = _chosen(config, environment)
    if (length := len(os.fsencode(folder / SOCKET_NAME))) > LONGEST_SOCKET_PATH:
        wanted = f"at most {LONGEST_SOCKET_PATH} bytes for a socket, this one has {length}"
        raise ConfigError(f"the run folder {folder} has a long path", wanted, "set station.run_folder to a shorter one")
    return folder


def _chosen(config: StationConfig, environment: Mapping[str, str]) -> Path:
    if config.station.run_folder is not None:
        return config.path(config.station.run_folder).absolute()
    if service := environment.get("RUNTIME_DIRECTORY", "").split(":")[0]:
        return Path(service)
    if Path(user := environment.get("XDG_RUNTIME_DIR", "")).is_absolute() and Path(user).is_dir():
        return Path(user) / "judo-edge" / config.station.name
    return (config.data / "run").absolute()


def make_folders(config: StationConfig, run_folder: Path) -> None:
    """Make data, log, run and spool folder; all this user's alone.

    The mode of a data folder that was there stays. OutputError when that fails.
    """
    for folder, mode in (
        (config.data, 0o700),
        (config.data / LOG_NAME, 0o700),
        (run_folder, 0o700),
        (run_folder / SPOOL_NAME, 0o700),
    ):
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=mode)
    with output_errors(run_folder):
        run_folder.chmod(0o700)


@contextmanager
def only_supervisor(*folders: Path) -> Iterator[None]:
    """Hold a lock in each folder until this process ends, however it ends; StationError when another one has it."""
    with ExitStack() as held:
        for folder in dict.fromkeys(folders):
            held.enter_context(_locked(folder / LOCK_NAME))
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with output_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _taken(path, os.read(handle, 20)) from error
        with suppress(OSError):  # a full disk must not keep a station from starting
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _taken(path: Path, holder: bytes) -> StationError:
    pid = holder.decode("ascii", "replace").strip() or "unknown"
    found = f"this station runs already: process {pid} holds {path}"
    return StationError(found, "one supervisor for one station", "stop that one, or give this one its own data folder")
