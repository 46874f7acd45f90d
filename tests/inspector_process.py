"""Starts a station's inspector as a process of its own, with faults on demand in its engine.

`python -m tests.inspector_process STATION.toml RUN_FOLDER`; the file `fault` in the run folder says what the engine
does at its next call: `raise`, `hang`, or nothing while it is absent.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from judo_edge.bundle import Bundle
from judo_edge.errors import EngineError
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.engines.base import Engine
from judo_edge.station.config import station_from_file
from judo_edge.station.processes.inspector import run_inspector

FAULT = "fault"


class FaultyEngine:
    """A real engine that fails when it is told to."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine, self._file = engine, file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __enter__(self) -> FaultyEngine:
        self._engine.__enter__()
        return self

    def __exit__(self, *fault: Any) -> None:
        self._engine.__exit__(*fault)

    def encode(self, *args: Any) -> Any:
        self._fail()
        return self._engine.encode(*args)

    def advance(self, *args: Any) -> Any:
        self._fail()
        return self._engine.advance(*args)

    def _fail(self) -> None:
        kind = self._file.read_text() if self._file.is_file() else ""
        if kind == "raise":
            raise EngineError("the engine was told to fail", "no fault", "remove the file")
        while kind == "hang":
            time.sleep(60)


def faulty(run_folder: Path) -> Callable[[Bundle, str, int], Engine]:
    """Return what opens engines that look for the run folder's file `fault`."""
    return lambda bundle, name, threads: FaultyEngine(engine_from_bundle(bundle, name, threads), run_folder / FAULT)


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    asyncio.run(run_inspector(station_from_file(Path(sys.argv[1])), folder, faulty(folder)))
