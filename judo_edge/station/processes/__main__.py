"""Runs one process of a station; the supervisor calls this, an engineer may do it by hand to look at one alone.

Only the role's module is imported: a hub loads no model, a camera no server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from judo_edge.errors import JudoEdgeError
from judo_edge.station.config import station_from_file
from judo_edge.station.processes.ties import beat, die_with_supervisor

ROLES = {
    "hub": ("judo_edge.station.processes.hub", "run_hub"),
    "camera": ("judo_edge.station.processes.camera", "run_camera"),
    "inspector": ("judo_edge.station.processes.inspector", "run_inspector"),
    "opcua": ("judo_edge.station.processes.opcua", "run_opcua"),
    "web": ("judo_edge.station.processes.web", "run_web"),
    "mqtt": ("judo_edge.station.processes.mqtt", "run_mqtt"),
}
"""Module and coroutine function of each role."""
_NAMED = ("camera",)
"""Roles of which a station may have several: their function takes the name too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process until it is asked to stop; 0 after that, 2 for an error that the last line explains."""
    if die_with_supervisor():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the supervisor's to hear
    parsed = _parser().parse_args(arguments)
    _log_to_stderr()
    try:
        run = function_of_role(parsed.role)
        config = station_from_file(parsed.config)
        named = (parsed.name,) if parsed.role in _NAMED else ()
        asyncio.run(run_until_stopped(lambda: run(config, parsed.run_folder, *named)))
    except JudoEdgeError as error:
        logging.getLogger(__name__).error("%s", error)
        return error.exit_code
    except Exception:
        logging.getLogger(__name__).exception("fault of judo-edge")
        return 70
    return 0


def function_of_role(role: str) -> Callable[..., Awaitable[None]]:
    """Import a role's module and return its coroutine function."""
    module, name = ROLES[role]
    function: Callable[..., Awaitable[None]] = getattr(importlib.import_module(module), name)
    return function


async def run_until_stopped(run: Callable[[], Awaitable[None]]) -> None:
    """Await `run()` with beats beside it; SIGTERM cancels it once, and it may finish what it began."""
    task = asyncio.ensure_future(run())
    beating = asyncio.create_task(beat())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        beating.cancel()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m judo_edge.station.processes", description=__doc__)
    parser.add_argument("role", choices=tuple(ROLES))
    parser.add_argument("--config", type=Path, required=True, help="STATION.toml")
    parser.add_argument("--run-folder", type=Path, required=True, help="folder of socket and photos under way")
    parser.add_argument("--name", default="", help="name of the camera")
    return parser


class _Lines(logging.Formatter):
    """`LEVEL text`, with the logger's name where it is another package that speaks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        is_ours = record.name == "__main__" or record.name.partition(".")[0] == "judo_edge"
        return f"{record.levelname} {'' if is_ours else f'{record.name}: '}{record.message}"


def _log_to_stderr() -> None:
    """Write `LEVEL text` lines, as the supervisor reads them; a full pipe costs lines and stops nobody."""
    logging.raiseExceptions = False
    if not sys.stderr.isatty():
        with contextlib.suppress(OSError):
            os.set_blocking(2, False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
