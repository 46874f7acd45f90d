"""What an engineer installs: every example loads and means something, and systemd takes the unit."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from judo_edge.station.config import StationConfig, station_from_file
from judo_edge.station.supervisor.table import table_of

RUNTIME = Path(__file__).resolve().parents[3] / "runtime"
STATIONS = sorted((RUNTIME / "stations").glob("*.toml"))


def test_there_are_examples():
    assert [path.stem for path in STATIONS] == ["folder", "gige", "two-cameras", "usb"]


@pytest.mark.parametrize("path", STATIONS, ids=lambda path: path.stem)
def test_every_example_is_valid(path):
    config = station_from_file(path)
    assert config.station.name == path.stem
    names = [spec.name for spec in table_of(config, path, Path("/run/x"))]
    assert names[:2] == ["hub", "inspector"]
    assert [f"camera.{camera.name}" for camera in config.cameras] == [name for name in names if "camera." in name]


def test_the_gige_example_is_triggered_from_outside():
    assert station_from_file(RUNTIME / "stations" / "gige.toml").cameras[0].trigger_comes_from_outside


def test_systemd_takes_the_unit(tmp_path):
    if not (tool := shutil.which("systemd-analyze")):
        pytest.skip("needs systemd-analyze")
    text = (RUNTIME / "systemd" / "judo-edge@.service").read_text()
    unit = tmp_path / "judo-edge@.service"
    unit.write_text(text.replace("/opt/judo-edge/venv/bin/judo-edge", "/bin/true"))
    found = subprocess.run([tool, "verify", "--man=no", unit], capture_output=True, text=True, timeout=120)
    ours = [line for line in found.stderr.splitlines() if "judo-edge" in line]
    assert not ours, found.stderr


def test_containers_say_that_they_were_never_built():
    for path in (RUNTIME / "container").iterdir():
        assert "never built" in path.read_text()


@pytest.mark.parametrize("kind", ["opencv", "gstreamer", "aravis"])
def test_a_free_running_camera_whose_frames_wait_is_refused_for_a_station(kind):
    own = {"opencv": {"device": 0}, "gstreamer": {"pipeline": "videotestsrc", "width": 8, "height": 8}, "aravis": {}}
    camera = {"kind": kind, "name": "top", "trigger": "free-run", **own[kind]}
    data = {"station": {"name": "s"}, "recipes": [{"id": "lid", "bundle": "b"}]}
    assert StationConfig.model_validate({**data, "cameras": [camera]}).cameras
    with pytest.raises(ValidationError, match="runs freely"):
        StationConfig.model_validate({**data, "cameras": [{**camera, "waiting": "wait"}]})
