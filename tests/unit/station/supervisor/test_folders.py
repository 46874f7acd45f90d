"""Where a station runs, and that it runs once."""

import os
import subprocess
import sys

import pytest

from judo_edge.config import model_from_data
from judo_edge.errors import ConfigError, StationError
from judo_edge.station.config import StationConfig
from judo_edge.station.supervisor.backoff import HEALTHY, LONGEST, MANY, SHORTEST, WINDOW, Backoff
from judo_edge.station.supervisor.folders import LOCK_NAME, make_folders, only_supervisor, run_folder_of
from judo_edge.station.supervisor.table import table_of


def config_of(folder, **more):
    data = {"station": {"name": "s1", **more.pop("station", {})}, "recipes": [{"id": "lid", "bundle": "judo-nano"}]}
    return model_from_data(StationConfig, {**data, **more}, "test").model_copy(update={"folder": folder})


def test_run_folder_in_order_of_preference(tmp_path):
    plain, named = config_of(tmp_path), config_of(tmp_path, station={"run_folder": "here"})
    user = {"XDG_RUNTIME_DIR": str(tmp_path)}
    service = {**user, "RUNTIME_DIRECTORY": "/run/judo-edge/s1:/run/other"}
    assert run_folder_of(named, service) == tmp_path / "here"
    assert str(run_folder_of(plain, service)) == "/run/judo-edge/s1"
    assert run_folder_of(plain, user) == tmp_path / "judo-edge" / "s1"
    assert run_folder_of(plain, {}) == tmp_path / "station-data" / "run"


def test_a_path_too_long_for_a_socket_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="run_folder"):
        run_folder_of(config_of(tmp_path, station={"run_folder": "x" * 100}), {})


def test_folders_are_for_this_user_alone(tmp_path):
    config = config_of(tmp_path)
    make_folders(config, run_folder_of(config, {}))
    for folder in (config.data, config.data / "log", config.data / "run", config.data / "run" / "spool"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_two_supervisors_never_run_one_station(tmp_path):
    script = (
        "import sys; from pathlib import Path; from judo_edge.station.supervisor.folders import only_supervisor\n"
        "with only_supervisor(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(StationError, match=f"process {other.pid} holds"), only_supervisor(tmp_path):
                pass
        finally:
            other.kill()
    with only_supervisor(tmp_path, tmp_path):  # killed: the lock went with it; one folder for both is one lock
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_table_has_what_the_file_asks_for(tmp_path):
    cameras = [{"name": name, "kind": "folder", "folder": "in"} for name in ("top", "hub")]
    config = config_of(tmp_path, cameras=cameras, web={"is_on": True}, station={"deadline": 3.0})
    table = table_of(config, tmp_path / "STATION.toml", tmp_path / "run")
    assert [spec.name for spec in table] == ["hub", "inspector", "camera.top", "camera.hub", "web"]
    assert table[2].command[1:5] == ("-m", "judo_edge.station.processes", "camera", "--config")
    assert table[2].command[-2:] == ("--name", "top")
    assert table[0].stop_limit == 13.0


def test_waits_double_up_to_the_longest_and_begin_anew_after_health():
    backoff = Backoff()
    waits = [backoff.delay(1.0, float(now)) for now in range(12)]
    for count, wait in enumerate(waits, 1):
        top = min(LONGEST, SHORTEST * 2**count)
        assert top / 2 <= wait <= top
    assert len(set(waits)) == len(waits)
    assert backoff.recent(11.0) == 12 > MANY
    assert backoff.delay(HEALTHY, 200.0) <= SHORTEST
    assert backoff.recent(200.0 + WINDOW) == 1
