"""The doctor: what it finds on a real machine and of real station files, and what it says to do."""

import json
import os
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from judo_edge.cli import main
from judo_edge.errors import InputError
from judo_edge.station.config import station_from_file
from judo_edge.station.doctor import line, machine
from judo_edge.station.doctor.disk import disk
from judo_edge.station.doctor.findings import Level, fail, findings_of, is_fit, ok, warn
from judo_edge.station.users import FILE_NAME, Role, UserStore


def station(folder, more="", camera=""):
    path = folder / "station.toml"
    (folder / "in").mkdir(exist_ok=True)
    camera = camera or '[[cameras]]\nname = "in"\nkind = "folder"\nfolder = "in"\n'
    recipe = '[[recipes]]\nid = "lid"\nbundle = "no-such-bundle"\n'
    path.write_text(f'[station]\nname = "s"\n{recipe}{camera}{more}')
    return path


def test_an_error_of_a_check_is_a_finding_and_the_others_go_on():
    def refuses():
        yield ok("before", "fine")
        raise InputError("this was found", "that was wanted", "do it")

    def breaks():
        raise ValueError("a bug")

    found = list(findings_of([("a", refuses), ("b", breaks), ("c", lambda: [warn("c", "hm", "look")])]))
    assert [one.level.value for one in found] == ["ok", "fail", "fail", "warn"]
    assert (found[1].found, found[1].action) == ("this was found", "do it")
    assert "ValueError: a bug" in found[2].found
    assert not is_fit(found) and is_fit([found[0], found[3]])


def test_the_machine_is_described(capsys):
    assert main(["doctor", "--json"]) == 0
    names = {one["name"]: one["level"] for one in json.loads(capsys.readouterr().out)}
    assert {"python", "package numpy", "gpu", "memory", "clock", "ntp", "open files"} <= set(names)


def test_a_missing_package_and_a_missing_gpu_fail(monkeypatch):
    (found,) = machine.packages((("no-such-package", "opcua"),))
    assert (found.level, found.action) == (Level.FAIL, "pip install 'judo-edge[opcua]'")
    monkeypatch.setattr(machine, "gpu_of_driver", lambda: None)
    assert [one.level for one in machine.gpu("tensorrt")] == [Level.FAIL]
    assert [one.level for one in machine.gpu("onnxruntime")] == [Level.OK]


def test_a_station_is_examined_to_its_end(tmp_path, capsys):
    assert main(["doctor", str(station(tmp_path, "[web]\nis_on = true\nport = 0\n"))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "fail  recipe lid: no-such-bundle is not a folder -> judo-edge export CHECKPOINT --out BUNDLE" in lines
    assert any(text.startswith("ok    camera in: ") and "0 files wait" in text for text in lines)
    assert any(text.startswith("fail  users: none") for text in lines)
    assert any(text.startswith("ok    station: does not run now") for text in lines)


def test_disk_room_and_latency(tmp_path):
    found = {one.name: one for one in disk(tmp_path / "not" / "yet", keep_free=0)}
    assert "a durable write takes" in found["disk latency"].found
    assert not list(tmp_path.iterdir())
    (low, *_) = disk(tmp_path, keep_free=1 << 60)
    assert low.level is Level.WARN and "photos will go" in low.found


def test_a_port_that_another_program_has_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        config = station_from_file(station(tmp_path, f"[web]\nis_on = true\nport = {port}\n"))
        (found,) = line.ports(config)
    assert found.level is Level.FAIL and f"(process {os.getpid()})" in found.found
    (free,) = line.ports(config)
    assert free.level is Level.OK


def test_users(tmp_path):
    config = station_from_file(station(tmp_path, "[opcua]\nis_on = true\n"))
    config.data.mkdir()
    store = UserStore(config.data / FILE_NAME)
    levels = [next(iter(line.users(config))).level]
    store.add("ann", "a long password 1", Role.OPERATOR)
    levels.append(next(iter(line.users(config))).level)
    store.add("bob", "a long password 2", Role.ENGINEER)
    levels.append(next(iter(line.users(config))).level)
    assert levels == [Level.FAIL, Level.WARN, Level.OK]


def test_a_camera_that_is_not_there_and_one_that_hangs(tmp_path, monkeypatch):
    camera = '[[cameras]]\nname = "top"\nkind = "opencv"\ndevice = "/dev/video-none"\n'
    file = station(tmp_path, camera=camera)
    (found,) = line.camera(file, "top")
    assert found.level is Level.FAIL and found.name == "camera top"
    monkeypatch.setattr(line, "CAMERA_SECONDS", 0.01)
    (found,) = line.camera(file, "top")
    assert found.level is Level.FAIL and "no answer from the driver" in found.found


def test_certificates(tmp_path):
    x509 = pytest.importorskip("cryptography.x509", reason="needs cryptography")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    config = station_from_file(station(tmp_path))
    folder = config.data / "pki" / "own"
    folder.mkdir(parents=True)
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(timezone.utc)
    for days, file in ((400, "fresh"), (10, "soon"), (-1, "over")):
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=500)).not_valid_after(
            now + timedelta(days=days, hours=1)
        )
        made = builder.sign(key, hashes.SHA256())
        (folder / f"{file}.der").write_bytes(made.public_bytes(serialization.Encoding.DER))
    assert {one.found.split(".")[0]: one.level.value for one in line.certificates(config)} == {
        "fresh": "ok", "over": "fail", "soon": "warn",
    }  # fmt: skip
    assert fail("x", "y", "z").level is Level.FAIL


def test_only_the_doctor_is_loaded():
    script = "import sys, judo_edge.station.doctor.examining; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "asyncua", "fastapi", "tensorrt"} & set(loaded)


def test_masters_that_are_needed_and_not_there(tmp_path):
    required = station_from_file(station(tmp_path, "[challenge]\nis_required = true\n"))
    (table,) = required.recipes
    folder = tmp_path / "masters" / "lid"
    (found,) = line.masters(required, table)
    assert found.level is Level.FAIL and str(folder / "fail") in found.action
    (found,) = line.masters(station_from_file(station(tmp_path)), table)
    assert found.level is Level.WARN
    for kind in ("fail", "pass"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "one.jpg").write_bytes(b"")
    (found,) = line.masters(required, table)
    assert (found.level, found.found) == (Level.OK, "1 must fail, 1 must pass")


def test_a_broker_that_is_there_and_one_that_is_not(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = station_from_file(station(tmp_path, f"[mqtt]\nis_on = true\nport = {server.getsockname()[1]}\n"))
        (found,) = line.broker(config)
        assert found.level is Level.OK
    (found,) = line.broker(config)
    assert found.level is Level.WARN and "results are kept until then" in found.action
    assert not list(line.broker(station_from_file(station(tmp_path))))
