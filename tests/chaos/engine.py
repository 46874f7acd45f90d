"""A real engine that raises or hangs when the harness says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from judo_edge.bundle import Bundle
from judo_edge.errors import EngineError
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.engines.base import Engine
from tests.chaos.control import read_control
from tests.inspector_process import FaultyEngine


class ChaosEngine(FaultyEngine):
    """Looks into the harness's file before every call; `report` is an EngineError, `raise` what no engine may raise."""

    def _fail(self) -> None:
        kind = read_control(self._file).get("engine", "")
        if kind == "report":
            raise EngineError("the engine was told to fail", "no fault", "lift the fault")
        if kind == "raise":
            raise ValueError("the engine was told to fail")
        while kind == "stuck" or read_control(self._file).get("engine") == "hang":
            time.sleep(0.2)


def faulty(run_folder: Path) -> Callable[[Bundle, str, int], Engine]:
    """Return what opens engines that fail on demand."""
    return lambda bundle, name, threads: ChaosEngine(engine_from_bundle(bundle, name, threads), run_folder)
