"""Lines of all processes: told on stderr, kept in a file each, and lost rather than waited for."""

import io
import time

import pytest

from judo_edge.station.supervisor import logbook as module
from judo_edge.station.supervisor.logbook import Logbook
from tests.disks import small_disk


def test_a_line_each_with_time_process_and_level(tmp_path):
    stream = io.StringIO()
    book = Logbook(tmp_path, stream)
    book.write("hub", "WARNING", "the disk fills\n")
    book.write("camera.top", "INFO", "open")
    book.close()
    first, second = stream.getvalue().splitlines()
    assert first.endswith("+00:00 hub WARNING the disk fills")
    assert second.endswith("camera.top INFO open")
    assert (tmp_path / "hub.log").read_text().endswith(" WARNING the disk fills\n")
    assert (tmp_path / "camera.top.log").read_text().count("\n") == 1


def test_the_journal_gets_priorities_and_keeps_the_time_itself(tmp_path):
    stream = io.StringIO()
    book = Logbook(tmp_path, stream, in_journal=True)
    book.write("hub", "ERROR", "broken")
    book.close()
    assert stream.getvalue() == "<3>hub ERROR broken\n"


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_files_are_rotated(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FILE_BYTES", 1000)
    book = Logbook(tmp_path, io.StringIO())
    for number in range(200):
        book.write("hub", "INFO", f"line {number}")
    book.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["hub.log", "hub.log.1", "hub.log.2", "hub.log.3"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert "line 199" in (tmp_path / "hub.log").read_text()


def test_a_full_disk_and_a_closed_stream_cost_lines_only(tmp_path, capsys):
    stream = io.StringIO()
    with small_disk(tmp_path, 64 << 10) as disk:
        (disk / "fill").write_bytes(b"x" * (56 << 10))
        book = Logbook(disk, stream)
        for _ in range(500):
            book.write("hub", "INFO", "y" * 100)
        wait_for(lambda: stream.getvalue().count("\n") == 500)
        (disk / "fill").unlink()
        book.write("hub", "INFO", "there is room again")
        book.close()
        assert "there is room again" in (disk / "hub.log").read_text()
    stream.close()
    other = Logbook(tmp_path, stream)
    other.write("hub", "INFO", "still alive")
    other.close()
    assert other.num_lost == 1
    assert "still alive" in (tmp_path / "hub.log").read_text()
    assert not capsys.readouterr().err


@pytest.mark.parametrize("folder", ["absent", "file"])
def test_a_folder_that_cannot_be_used(tmp_path, folder):
    (tmp_path / "file").write_text("")
    stream = io.StringIO()
    book = Logbook(tmp_path / folder, stream)
    book.write("hub", "INFO", "told all the same")
    book.close()
    assert "told all the same" in stream.getvalue()
