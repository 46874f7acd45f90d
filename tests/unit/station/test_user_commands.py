from __future__ import annotations

import io
from pathlib import Path

import pytest

from judo_edge.cli import main
from judo_edge.station.users import FILE_NAME, Role, User, UserStore


@pytest.fixture
def station(tmp_path: Path) -> Path:
    path = tmp_path / "STATION.toml"
    path.write_text('[station]\nname = "s"\n[[recipes]]\nid = "lid"\nbundle = "nano"\n')
    return path


def run(monkeypatch: pytest.MonkeyPatch, station: Path, *arguments: str, password: str = "") -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
    return main(["station", "user", *arguments, "--station", str(station)])


def test_users_are_added_listed_changed_and_removed(
    station: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    users = UserStore(station.parent / "station-data" / FILE_NAME)
    added = run(monkeypatch, station, "add", "eva", "--role", "engineer", "--password-stdin", password="correct horse")
    assert added == 0 and users.check("eva", "correct horse") == User("eva", Role.ENGINEER)
    assert run(monkeypatch, station, "list") == 0
    shown = capsys.readouterr().out
    assert "eva" in shown and "engineer" in shown
    changed = run(monkeypatch, station, "password", "eva", "--password-stdin", password="another horse")
    assert changed == 0 and users.check("eva", "another horse") is not None
    assert run(monkeypatch, station, "remove", "eva") == 0 and users.list() == ()


def test_what_cannot_be_is_refused_on_one_line(
    station: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, station, "add", "eva", "--role", "boss", "--password-stdin", password="x" * 10) == 2
    assert run(monkeypatch, station, "add", "eva", "--password-stdin", password="short") == 2
    assert run(monkeypatch, station, "remove", "eva") == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3 and "operator, engineer" in told[0] and "10 to 1000" in told[1] and "no user" in told[2]
    assert main(["station", "user", "add", "eva", "--password", "x", "--station", str(station)]) == 2
