"""Which processes a station has, from its file. Starts nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from judo_edge.station.config import StationConfig

STOP_ORDER = (("opcua", "web", "mqtt"), ("camera",), ("hub",), ("inspector",))
"""Roles, in groups: who brings work goes first, and the hub still has its inspector while it finishes its jobs."""
_SILENT = {"hub": 10.0, "inspector": 60.0}
_USUAL_SILENT = 20.0


@dataclass(frozen=True)
class ProcessSpec:
    """One process of a station."""

    name: str
    """`hub`, `inspector`, `opcua`, `web`, `mqtt`, or `camera.` and the camera's name."""
    role: str
    command: tuple[str, ...]
    silent_limit: float = _USUAL_SILENT
    """Seconds without a beat of its event loop after which it counts as hung and is killed."""
    start_limit: float = 180.0
    """Seconds that it may take to its first beat: imports from a cold disk."""
    stop_limit: float = 5.0
    """Seconds that it may take to end when asked."""


MODULE = "judo_edge.station.processes"


def table_of(
    config: StationConfig, config_file: Path, run_folder: Path, module: str = MODULE
) -> tuple[ProcessSpec, ...]:
    """List the processes in the order in which they are started; `module` is what runs them, for tests."""
    named = [("hub", "hub"), ("inspector", "inspector"), *(("camera", camera.name) for camera in config.cameras)]
    facades = (("opcua", config.opcua.is_on), ("web", config.web.is_on), ("mqtt", config.mqtt.is_on))
    named += [(role, role) for role, is_on in facades if is_on]
    return tuple(
        _spec(config, (module, role, *_where(config_file, run_folder, name)), role, name) for role, name in named
    )


def _where(config_file: Path, run_folder: Path, name: str) -> tuple[str, ...]:
    return "--config", str(config_file.absolute()), "--run-folder", str(run_folder), "--name", name


def _spec(config: StationConfig, arguments: tuple[str, ...], role: str, name: str) -> ProcessSpec:
    return ProcessSpec(
        name=f"camera.{name}" if role == "camera" else name,
        role=role,
        command=(sys.executable, "-m", *arguments),
        silent_limit=_SILENT.get(role, _USUAL_SILENT),
        stop_limit=config.station.deadline + 10.0 if role == "hub" else 5.0,
    )
