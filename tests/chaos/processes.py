"""A station's processes with what the harness needs in place of hardware: `python -m tests.chaos.processes ROLE ...`.

Supervisor and processes are the real ones; `top` is a drawn camera, the inspector is scripted unless the station's
folder holds a bundle, whose engine then fails on demand. The clock on the wall of hub, cameras and inspector can be put
wrong.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from judo_edge.station.config import StationConfig
from judo_edge.station.processes import __main__ as real
from tests.chaos.control import read_control

HUB_PATIENCE = 6.0
"""Seconds after which the hub gives up an inspector that does not answer; 30 for real, which makes runs tedious."""


async def run_hub(config: StationConfig, run_folder: Path) -> None:
    """Run the real hub with a clock that can be put wrong."""
    from judo_edge.station.hub import base
    from judo_edge.station.processes.hub import run_hub as run

    base.LEAST_PATIENCE = HUB_PATIENCE
    let_clock_be_wrong(run_folder)
    await run(config, run_folder)


async def run_camera(config: StationConfig, run_folder: Path, name: str) -> None:
    """Run the real camera process; `top` gets the drawn camera."""
    from judo_edge.station.processes import camera
    from tests.chaos.eye import ChaosService, DrawnCamera

    let_clock_be_wrong(run_folder)
    if name == "top":

        def service(_: Any, *args: Any, **options: Any) -> ChaosService:
            return ChaosService(run_folder, DrawnCamera(run_folder), *args, **options)

        camera.CameraService = service  # type: ignore[assignment, misc]
    await camera.run_camera(config, run_folder, name)


async def run_inspector(config: StationConfig, run_folder: Path) -> None:
    """Run the scripted inspector, or the real one over a bundle in the station's folder."""
    if config.path(Path(config.recipes[0].bundle)).is_dir():
        from judo_edge.station.processes.inspector import run_inspector as run
        from tests.chaos.engine import faulty

        let_clock_be_wrong(run_folder)
        await run(config, run_folder, faulty(run_folder))
    else:
        from tests.chaos.judge import run_scripted

        await run_scripted(config, run_folder)


def let_clock_be_wrong(run_folder: Path) -> None:
    """Have everything that was imported ask a clock on the wall that the harness can put wrong."""

    def utc_wrong() -> str:
        wrong = timedelta(seconds=read_control(run_folder).get("clock_seconds", 0))
        return (datetime.now(timezone.utc) + wrong).isoformat(timespec="microseconds")

    for name, module in list(sys.modules.items()):
        if name.startswith("judo_edge.") and hasattr(module, "utc_now"):
            module.utc_now = utc_wrong  # type: ignore[attr-defined]


if __name__ == "__main__":
    for role, function in (("hub", run_hub), ("camera", run_camera), ("inspector", run_inspector)):
        real.ROLES[role] = (__name__, function.__name__)
    sys.exit(real.main())
