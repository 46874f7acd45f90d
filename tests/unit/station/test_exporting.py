"""A ledger read beside its station: exported whole by the command, and its reviewed photos."""

import asyncio
from datetime import datetime, timezone

import pytest

from judo_edge.cli import main
from judo_edge.core import Decision
from judo_edge.errors import InputError
from judo_edge.station import exporting
from judo_edge.station.config import station_from_file
from judo_edge.station.exporting import exported_rows, reviewed_photos, time_from_text
from judo_edge.station.ledger import writing
from judo_edge.station.ledger.ledger import Ledger
from judo_edge.station.results import Code, Job, JobRequest, LateResult, Result, ResultState
from judo_edge.station.workers import Kept

STATION = '[station]\nname = "line-1"\n[[recipes]]\nid = "lid"\nbundle = "nano"\n'


def at(day):
    return f"2026-11-{day:02d}T12:00:00.000000+00:00"


class Book:
    """A ledger, and what a station would write into it."""

    def __init__(self, folder):
        self.data = folder / "station-data"
        self.ledger = Ledger(self.data, 1 << 20)

    def write(self, work, *args):
        return asyncio.run(self.ledger.write(work, *args))

    def judge(self, name, day=1, part="lid", origin="api", decision=Decision.NOK):
        job = Job(job_id=name, request=JobRequest(origin=origin), recipe_id="a", created=at(day), deadline=1.0)
        self.write(writing.add_job, job, "boot")
        result = Result(
            number=0, result_id=f"r-{name}", job_id=name, state=ResultState.COMPLETED, decision=decision, reason="",
            code=Code.INSPECTED, part=part, created=at(day), triggered=at(day), origin=origin,
        )  # fmt: skip
        self.write(writing.add_result, result)
        return f"r-{name}"

    def keep(self, result_id, pixels=b"photo"):
        folder = self.data / "archive" / "2026-11-01" / "NOK"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{result_id}.jpg").write_bytes(pixels)
        self.write(writing.add_evidence, result_id, Kept(photo=f"2026-11-01/NOK/{result_id}.jpg", num_bytes=5))

    def review(self, result_id, *decisions):
        for decision in decisions:
            self.write(writing.add_review, result_id, decision, "eva", "dust")


@pytest.fixture
def book(tmp_path):
    (tmp_path / "STATION.toml").write_text(STATION)
    book = Book(tmp_path)
    yield book
    book.ledger.close()


@pytest.fixture
def config(book, tmp_path):
    return station_from_file(tmp_path / "STATION.toml")


def test_rows_carry_what_came_later(book, config):
    first, second = book.judge("a"), book.judge("b", 2)
    book.keep(first)
    book.review(first, "NOK", "OK")
    book.review(second, "OK", "")
    for seconds in (0.5, 3.0):
        late = LateResult(job_id="b", arrived=at(2), seconds_late=seconds, decision=Decision.OK, reason="late")
        book.write(writing.add_late, late)
    one, two = exported_rows(config)
    assert (one.result.number, one.result.review, one.reviewer, one.review_note) == (1, "OK", "eva", "dust")
    assert one.result.photo.endswith("r-a.jpg")
    assert one.late is None
    assert (two.result.review, two.result.photo, two.late.seconds_late) == ("", "", 0.5)
    book.write(writing.remove_evidence, [first])
    assert next(exported_rows(config)).result.photo == ""


def test_rows_are_read_in_pieces_while_the_station_writes(book, config, monkeypatch):
    monkeypatch.setattr(exporting, "ROWS_AT_ONCE", 3)
    for number in range(7):
        book.judge(f"j{number}")
    rows = exported_rows(config)
    seen = [next(rows).result.number]
    book.judge("later")
    assert seen + [row.result.number for row in rows] == list(range(1, 9))


def test_bounds_of_time(book, config):
    for day in range(1, 6):
        book.judge(f"j{day}", day)
    since, until = datetime(2026, 11, 2, tzinfo=timezone.utc), datetime(2026, 11, 4, 12, tzinfo=timezone.utc)
    assert [row.result.job_id for row in exported_rows(config, since, until)] == ["j2", "j3"]
    assert time_from_text("2026-11-02T00:00+01:00") == datetime(2026, 11, 1, 23, tzinfo=timezone.utc)
    assert time_from_text("2026-11-02").tzinfo is timezone.utc
    with pytest.raises(InputError, match="no time"):
        time_from_text("yesterday")


def test_reviewed_photos_are_those_that_can_still_be_used(book, config):
    for name, *decisions in (("good", "NOK", "OK"), ("bad", "NOK"), ("back", "OK", ""), ("none",), ("gone", "OK")):
        result_id = book.judge(name)
        book.keep(result_id)
        book.review(result_id, *decisions)
    book.write(writing.remove_evidence, ["r-gone"])
    book.review(book.judge("no-photo"), "OK")
    other = book.judge("other", part="box")
    book.keep(other)
    book.review(other, "OK")
    found = reviewed_photos(config, "lid")
    assert [(photo.path.stem, photo.is_defect) for photo in found] == [("r-good", False), ("r-bad", True)]
    found[0].path.unlink()
    assert len(reviewed_photos(config, "lid")) == 1


def test_a_station_that_never_ran(tmp_path):
    (tmp_path / "STATION.toml").write_text(STATION)
    with pytest.raises(InputError, match="no ledger"):
        list(exported_rows(station_from_file(tmp_path / "STATION.toml")))
    assert not (tmp_path / "station-data").exists()


def test_the_command(book, tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow.parquet import read_table

    for day in range(1, 4):
        book.judge(f"j{day}", day)
    out, station = tmp_path / "results.parquet", str(tmp_path / "STATION.toml")
    assert main(["station", "export", station, "--out", str(out)]) == 0
    assert "3 results in" in capsys.readouterr().err
    assert read_table(out)["job_id"].to_pylist() == ["j1", "j2", "j3"]
    assert main(["station", "export", station, "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    more = ["--since", "2026-11-02", "--until", "2026-11-03T18:00", "--force"]
    assert main(["station", "export", station, "--out", str(out), *more]) == 0
    assert read_table(out)["job_id"].to_pylist() == ["j2", "j3"]
    assert main(["station", "export", station, "--out", str(tmp_path / "results.csv")]) == 0
    assert (tmp_path / "results.csv").read_text().count("\n") == 4
    assert main(["station", "export", station, "--out", str(tmp_path / "results.xlsx")]) == 2
