"""A station's processes with what the harness needs in place of hardware: `python -m tests.chaos.processes ROLE ...`.

Hub, supervisor and camera process are the real ones. `top` is a drawn camera, the inspector is scripted, and the hub's
clock on the wall can be put wrong.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from judo_edge.station.config import StationConfig
from judo_edge.station.processes import __main__ as real
from tests.chaos.control import read_control


async def run_hub(config: StationConfig, run_folder: Path) -> None:
    """Run the real hub with a clock that can be put wrong."""
    from judo_edge.station.processes.hub import run_hub as run

    def utc_wrong() -> str:
        wrong = timedelta(seconds=read_control(run_folder).get("clock_seconds", 0))
        return (datetime.now(timezone.utc) + wrong).isoformat(timespec="microseconds")

    for name, module in list(sys.modules.items()):
        if name.startswith("judo_edge.station") and hasattr(module, "utc_now"):
            module.utc_now = utc_wrong  # type: ignore[attr-defined]
    await run(config, run_folder)


async def run_camera(config: StationConfig, run_folder: Path, name: str) -> None:
    """Run the real camera process; `top` gets the drawn camera."""
    from judo_edge.station.processes import camera
    from tests.chaos.eye import ChaosService, DrawnCamera

    if name == "top":

        def service(_: Any, *args: Any, **options: Any) -> ChaosService:
            return ChaosService(run_folder, DrawnCamera(run_folder), *args, **options)

        camera.CameraService = service  # type: ignore[assignment, misc]
    await camera.run_camera(config, run_folder, name)


async def run_inspector(config: StationConfig, run_folder: Path) -> None:
    """Run the scripted inspector."""
    from tests.chaos.judge import run_scripted

    await run_scripted(config, run_folder)


if __name__ == "__main__":
    for role, function in (("hub", run_hub), ("camera", run_camera), ("inspector", run_inspector)):
        real.ROLES[role] = (__name__, function.__name__)
    sys.exit(real.main())
