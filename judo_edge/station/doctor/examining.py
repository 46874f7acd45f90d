"""All checks in order: the machine first, then what a station's file names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from judo_edge.station.config import StationConfig
from judo_edge.station.doctor import disk, line, machine
from judo_edge.station.doctor.findings import Check, Finding, findings_of

_BASE = (("numpy", ""), ("onnxruntime", ""), ("pillow", ""), ("pydantic", ""))


def examined(config: StationConfig | None, file: Path | None) -> Iterator[Finding]:
    """Yield what is found, line by line; without a station only of the machine."""
    checks: list[tuple[str, Check]] = [
        ("python", machine.python),
        ("packages", partial(machine.packages, _packages(config))),
        ("gpu", partial(machine.gpu, config.station.engine if config else "onnxruntime")),
        ("memory", machine.memory),
        ("clocks", machine.clocks),
        ("limits", machine.limits),
        ("systemd", machine.watchdog),
    ]
    if config is not None and file is not None:
        checks += _of_station(config, file)
    return findings_of(checks)


def _of_station(config: StationConfig, file: Path) -> list[tuple[str, Check]]:
    keep_free = config.retention.keep_free_megabytes << 20
    checks: list[tuple[str, Check]] = [
        ("station", partial(line.hub, config)),
        ("run folder", partial(line.folders, config)),
        ("disk", partial(disk.disk, config.data, keep_free)),
    ]
    for table in config.recipes:
        checks.append((f"recipe {table.id}", partial(line.recipe, config, table)))
        checks.append((f"recipe {table.id} masters", partial(line.masters, config, table)))
    if not _is_running(config):  # a camera has one user
        checks += [(f"camera {one.name}", partial(line.camera, file, one.name)) for one in config.cameras]
    checks += [
        ("ports", partial(line.ports, config)),
        ("mqtt", partial(line.broker, config)),
        ("certificates", partial(line.certificates, config)),
        ("users", partial(line.users, config)),
    ]
    return checks


def _is_running(config: StationConfig) -> bool:
    try:
        return line.running(config)
    except Exception:  # a folder that cannot be used is told by its own check
        return False


def _packages(config: StationConfig | None) -> tuple[tuple[str, str], ...]:
    """List the packages that a station's file asks for, with the extra that brings each."""
    wanted = [*_BASE]
    if config is None:
        return tuple(wanted)
    engines = {
        "tensorrt": ("tensorrt", "tensorrt"),
        "onnxruntime-cuda": ("onnxruntime-gpu", "gpu"),
        "openvino": ("openvino", "openvino"),
    }
    if config.station.engine in engines:
        wanted = [one for one in wanted if one[0] != "onnxruntime"] + [engines[config.station.engine]]
    kinds = {camera.kind for camera in config.cameras}
    wanted += [("opencv-python-headless", "")] * ("opencv" in kinds) + [("harvesters", "genicam")] * (
        "genicam" in kinds
    )
    wanted += [("asyncua", "opcua")] * config.opcua.is_on + [("paho-mqtt", "mqtt")] * config.mqtt.is_on
    wanted += [("fastapi", "web"), ("uvicorn", "web")] * config.web.is_on
    wanted += [("model-signing", "signing")] * any(recipe.public_key for recipe in config.recipes)
    return tuple(wanted)
