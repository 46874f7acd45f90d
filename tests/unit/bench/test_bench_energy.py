"""Energy from recorded lines and a stand-in for NVML; a machine that tells nothing is never 0."""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from judo_edge.bench import energy
from judo_edge.bench.energy import NoMeter, NvmlMeter, TegrastatsMeter, energy_meter, watts_from_tegrastats

ORIN_NX = (
    "11-24-2026 10:11:12 RAM 4722/15656MB (lfb 4x4MB) SWAP 0/7828MB (cached 0MB) CPU [3%@729,1%@729,off,off] "
    "GR3D_FREQ 0% cpu@49.6C soc2@48.4C tj@50.1C VDD_IN 5160mW/5088mW VDD_CPU_GPU_CV 960mW/940mW VDD_SOC 1400mW/1390mW"
)
AGX_ORIN = (
    "11-24-2026 10:11:12 RAM 9007/62796MB (lfb 12x4MB) SWAP 0/31398MB CPU [0%@2201,0%@2201] GR3D_FREQ 98% cpu@51C "
    "VDD_GPU_SOC 12400mW/11900mW VDD_CPU_CV 800mW/790mW VIN_SYS_5V0 4200mW/4100mW"
)
NANO = "RAM 2448/3963MB (lfb 204x4MB) CPU [12%@1479,9%@1479] thermal@31.5C POM_5V_IN 2754/2754 POM_5V_GPU 82/82"


def test_the_rail_of_the_whole_module_stands_for_all() -> None:
    assert watts_from_tegrastats(ORIN_NX) == pytest.approx(5.16)


def test_rails_are_added_where_no_rail_is_the_whole() -> None:
    assert watts_from_tegrastats(AGX_ORIN) == pytest.approx(17.4)


@pytest.mark.parametrize("line", ["", NANO, "RAM 1/2MB cpu@49.6C"])
def test_a_line_without_power_in_milliwatts_tells_nothing(line: str) -> None:
    assert watts_from_tegrastats(line) is None


def test_power_is_added_up_over_time() -> None:
    now = [100.0]
    meter = TegrastatsMeter(lambda: now[0])
    assert meter.joules() is None
    meter.feed([ORIN_NX])
    first = meter.joules()
    now[0] += 2
    meter.feed([AGX_ORIN])
    now[0] += 1
    total = meter.joules()
    assert first is not None and total is not None
    assert total - first == pytest.approx(2 * 5.16 + 17.4)


class Library:
    """NVML as far as it is used."""

    def __init__(self, broken: str = "") -> None:
        self.broken, self.millijoules, self.calls = broken, 5_000, list[str]()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "nvmlDeviceGetTotalEnergyConsumption":
                ctypes.cast(arguments[1], ctypes.POINTER(ctypes.c_ulonglong))[0] = self.millijoules
            return 3 if name == self.broken else 0

        return call


def test_nvml_counts_millijoules() -> None:
    library: Any = Library()
    meter = NvmlMeter(library)
    before = meter.joules()
    library.millijoules += 250
    assert before == 5 and meter.joules() == 5.25
    assert library.calls[:2] == ["nvmlInit_v2", "nvmlDeviceGetHandleByIndex_v2"]


@pytest.mark.parametrize("name", ["nvmlInit_v2", "nvmlDeviceGetTotalEnergyConsumption"])
def test_a_gpu_that_cannot_tell_is_no_meter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Library(broken=name))
    monkeypatch.setattr(energy.shutil, "which", lambda program: None)
    with energy_meter() as meter:
        assert meter.joules() is None and meter.source == "not measured"


def test_a_machine_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(energy.shutil, "which", lambda program: None)
    with energy_meter() as meter:
        assert isinstance(meter, NoMeter) and meter.joules() is None


def test_tegrastats_is_read_while_it_runs_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tegrastats"
    program.write_text(f"#!/bin/sh\necho '{ORIN_NX}'\nexec sleep 600\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with energy_meter() as meter:
        for _ in range(10_000):
            if meter.joules() is not None:
                break
            energy.time.sleep(0.001)
        assert meter.joules() is not None and meter.source.startswith("tegrastats")
