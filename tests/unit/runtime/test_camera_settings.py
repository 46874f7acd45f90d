from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from judo_edge.config import Frozen, model_from_toml
from judo_edge.errors import CameraFault, ConfigError
from judo_edge.runtime.sources.aravis import AravisCamera
from judo_edge.runtime.sources.genicam import GenICamCamera
from judo_edge.runtime.sources.gstreamer import GStreamerCamera
from judo_edge.runtime.sources.health import Guarded
from judo_edge.runtime.sources.opencv import OpenCvCamera
from judo_edge.runtime.sources.settings import CameraSettings, camera_from_settings
from judo_edge.runtime.sources.watched import WatchedFolder


class _Station(Frozen):
    cameras: tuple[CameraSettings, ...]


def _read(tmp_path: Path, *tables: str) -> tuple[CameraSettings, ...]:
    path = tmp_path / "station.toml"
    path.write_text("".join(f"[[cameras]]\n{table}\n" for table in tables))
    return model_from_toml(_Station, path).cameras


TABLES: dict[str, tuple[type, bool]] = {
    'name = "a"\nkind = "folder"\nfolder = "in"': (WatchedFolder, False),
    'name = "a"\nkind = "opencv"\ndevice = 0': (OpenCvCamera, True),
    'name = "a"\nkind = "opencv"\ndevice = "rtsp://x/y"\nwaiting = "wait"': (OpenCvCamera, False),
    'name = "a"\nkind = "gstreamer"\npipeline = "videotestsrc"\nwidth = 8\nheight = 8': (GStreamerCamera, True),
    'name = "a"\nkind = "genicam"\nproducer = "x.cti"': (GenICamCamera, True),
    'name = "a"\nkind = "aravis"\ntrigger = "hardware"': (AravisCamera, False),
    'name = "a"\nkind = "aravis"\n[cameras.features]\nPixelFormat = "Mono8"\nGain = 1': (AravisCamera, True),
}


@pytest.mark.parametrize("table", TABLES)
def test_each_kind_makes_its_camera(tmp_path: Path, table: str) -> None:
    kind, fresh = TABLES[table]
    camera = camera_from_settings(_read(tmp_path, table)[0])
    guarded = camera.camera
    assert isinstance(guarded, Guarded)
    assert isinstance(guarded.camera, kind)
    assert guarded.fresh is fresh


def test_values_keep_their_toml_types(tmp_path: Path) -> None:
    table = 'name = "a"\nkind = "aravis"\n[cameras.features]\nA = true\nB = 1\nC = 1.0\nD = "1"'
    camera: Any = camera_from_settings(_read(tmp_path, table)[0])
    assert [type(value) for value in camera.camera.camera.use.features.values()] == [bool, int, float, str]


def test_relative_paths_begin_at_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.avi").write_bytes(b"")
    folder, producer, video = _read(
        tmp_path,
        'name = "a"\nkind = "folder"\nfolder = "in"',
        'name = "b"\nkind = "genicam"\nproducer = "/opt/x.cti"',
        'name = "c"\nkind = "opencv"\ndevice = "x.avi"',
    )
    made: list[Any] = [camera_from_settings(one, base=tmp_path).camera for one in (folder, producer, video)]
    assert made[0].camera.folder == tmp_path / "in"
    assert made[1].camera.producer == Path("/opt/x.cti")
    assert made[2].camera.device == str(tmp_path / "x.avi")


def test_waiting_for_a_part_is_no_fault(tmp_path: Path) -> None:
    asked, pushed, folder = _read(
        tmp_path,
        'name = "a"\nkind = "aravis"',
        'name = "b"\nkind = "aravis"\ntrigger = "hardware"',
        'name = "c"\nkind = "folder"\nfolder = "in"',
    )
    assert CameraFault.TIMEOUT in camera_from_settings(asked).reopen_after
    assert CameraFault.TIMEOUT not in camera_from_settings(pushed).reopen_after
    assert CameraFault.TIMEOUT not in camera_from_settings(folder).reopen_after
    assert [one.trigger_comes_from_outside for one in (asked, pushed, folder)] == [False, True, True]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('name = "a"\nkind = "foldr"\nfolder = "in"', "folder"),
        ('name = "a"\nkind = "folder"\nfolder = "in"\ntriggr = 1', "triggr"),
        ('name = "../a"\nkind = "folder"\nfolder = "in"', "name"),
        ('name = "a"\nkind = "folder"\nfolder = "in"\npart_id = "x"', "group named part_id"),
        ('name = "a"\nkind = "opencv"\ndevice = 0\ntrigger = "software"', "trigger"),
        ('name = "a"\nkind = "opencv"\ndevice = 0\nfrozen_after = 1', "frozen"),
        ('name = "a"\nkind = "gstreamer"\npipeline = "videotestsrc"', "width"),
        ('name = "a"\nkind = "aravis"\ntimeout = 0', "timeout"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _read(tmp_path, table)


def test_settings_load_no_driver() -> None:
    code = "import sys, judo_edge.runtime.sources.settings; print(*{'harvesters', 'genicam'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_a_camera_is_called_tells_no_password() -> None:
    camera = OpenCvCamera("rtsp://ole:secret@10.0.0.7:554/stream")
    assert camera.name == "camera rtsp://10.0.0.7:554/stream"
    assert camera.device == "rtsp://ole:secret@10.0.0.7:554/stream"
