"""Retention: what goes first, and never more than has to; rows only after files; warnings before it hurts."""

import os
from datetime import datetime, timedelta, timezone

import pytest

from judo_edge.core import Decision
from judo_edge.station.config import RetentionTable
from judo_edge.station.orphans import Orphans
from judo_edge.station.results import Severity
from judo_edge.station.retention import PER_TICK, Retention, Stored

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
OK, NOK, UNDECIDED = Decision.OK, Decision.NOK, Decision.NOT_DECIDABLE
MEGABYTE = 1_000_000


class Archive:
    """A folder, its rows and a disk of a given size; files are told to be a megabyte each."""

    def __init__(self, folder):
        self.folder, self.rows, self.disk, self.marked = folder, {}, 10_000 * MEGABYTE, []

    def put(self, name, decision, days_ago, is_reviewed=False, num_bytes=MEGABYTE):
        photo, mask = self.folder / f"{name}.jpg", self.folder / f"{name}.png"
        photo.write_bytes(b"p")
        mask.write_bytes(b"m")
        created = (NOW - timedelta(days=days_ago)).isoformat()
        self.rows[name] = (decision, is_reviewed, Stored(name, created, (photo.name, mask.name), num_bytes))

    def total_bytes(self):
        return sum(stored.num_bytes for _, _, stored in self.rows.values())

    def oldest(self, decision, is_reviewed, limit):
        kind = [stored for *of, stored in self.rows.values() if of == [decision, is_reviewed]]
        return sorted(kind, key=lambda stored: stored.created)[:limit]

    def mark_removed(self, result_ids):
        assert not any((self.folder / f"{name}.jpg").exists() for name in result_ids)
        self.marked += result_ids
        for name in result_ids:
            del self.rows[name]

    def free(self):
        return self.disk - self.total_bytes()

    def retention(self, **table):
        return Retention(RetentionTable(**table), self.folder, self, self.free, lambda: NOW)


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


def settled(retention):
    """Tick until nothing is left to do."""
    ticks = [retention.tick()]
    while ticks[-1].is_more:
        ticks.append(retention.tick())
    return ticks


def test_age_depends_on_the_label_and_reviewed_ones_stay(archive):
    archive.put("ok-new", OK, 6.9)
    archive.put("ok-old", OK, 7.1)
    archive.put("ok-reviewed", OK, 400, is_reviewed=True)
    archive.put("nok-new", NOK, 89)
    archive.put("nok-old", NOK, 91)
    archive.put("undecided-old", UNDECIDED, 91)
    (tick,) = settled(archive.retention())
    assert (tick.num_removed, tick.text) == (3, "")
    assert sorted(archive.marked) == ["nok-old", "ok-old", "undecided-old"]
    assert sorted(path.stem for path in archive.folder.glob("*.png")) == ["nok-new", "ok-new", "ok-reviewed"]


def test_good_parts_go_first_and_reviewed_ones_last(archive):
    kinds = ((OK, False), (NOK, False), (UNDECIDED, False), (OK, True), (NOK, True), (UNDECIDED, True))
    for number, (decision, is_reviewed) in enumerate(kinds):
        archive.put(f"{number}-new", decision, 1, is_reviewed)
        archive.put(f"{number}-old", decision, 2 + number, is_reviewed)
    settled(archive.retention(max_megabytes=1))
    wanted = [f"{number}-{age}" for number in range(6) for age in ("old", "new")]
    assert archive.marked == wanted[:-1]


def test_no_more_goes_than_has_to(archive):
    for number in range(30):
        archive.put(f"part-{number:02d}", OK, 1 - number / 100)
    settled(archive.retention(max_megabytes=27))
    assert archive.marked == ["part-00", "part-01", "part-02"]


def test_free_space_is_kept_with_some_headroom(archive):
    archive.disk = 130 * MEGABYTE
    for number in range(60):
        archive.put(f"part-{number:02d}", OK, 1 - number / 100)
    settled(archive.retention(keep_free_megabytes=100))
    assert archive.free() == 105 * MEGABYTE
    assert settled(archive.retention(keep_free_megabytes=100))[0].num_removed == 0


def test_a_tick_is_small(archive):
    for number in range(3 * PER_TICK):
        archive.put(f"part-{number:03d}", OK, 30)
    ticks = settled(archive.retention())
    assert [tick.num_removed for tick in ticks] == [PER_TICK] * 3 + [0]


def test_warns_when_photos_go_before_their_time(archive):
    for number in range(3):
        archive.put(f"ok-{number}", OK, 1.5)
    archive.put("nok", NOK, 2)
    last = settled(archive.retention(max_megabytes=2))[-1]
    assert last.severity is Severity.INFORMATION
    assert last.text == "too little room for the archive: photos of good parts go after 1.5 days"
    archive.put("nok-2", NOK, 0.5)
    archive.put("nok-3", NOK, 0.5)
    last = settled(archive.retention(max_megabytes=2))[-1]
    assert last.severity is Severity.WARNING
    assert "rejected parts go after 2.0 days" in last.text


def test_tells_an_error_when_nothing_is_left_to_remove(archive):
    archive.disk = 50 * MEGABYTE
    archive.put("ok", OK, 1)
    last = settled(archive.retention(keep_free_megabytes=100))[-1]
    assert last.severity is Severity.ERROR
    assert "50 MB are free (20000 MB allowed, 100 MB to be kept free)" in last.text
    archive.disk = 500 * MEGABYTE
    assert "make room" not in archive.retention(keep_free_megabytes=100).tick().text


def test_a_crash_between_file_and_row_is_put_right(archive):
    archive.put("part", OK, 30)

    def crash(result_ids):
        raise KeyboardInterrupt

    mark, archive.mark_removed = archive.mark_removed, crash
    with pytest.raises(KeyboardInterrupt):
        archive.retention().tick()
    assert "part" in archive.rows
    assert not list(archive.folder.glob("part*"))
    archive.mark_removed = mark
    settled(archive.retention())
    assert archive.rows == {}


def test_what_cannot_be_removed_is_told_and_blocks_nothing(archive, tmp_path):
    archive.put("part", OK, 30)
    (tmp_path / "part.jpg").unlink()
    (tmp_path / "part.jpg").mkdir()  # a folder cannot be unlinked, whoever runs this
    archive.rows["way-out"] = (NOK, False, Stored("way-out", archive.rows["part"][2].created, ("../x.jpg",), 1))
    (tmp_path.parent / "x.jpg").write_bytes(b"")
    archive.put("other", NOK, 100)
    assert not settled(archive.retention(max_days_nok=20))[-1].is_more
    assert archive.marked == ["other"]
    archive.put("big", NOK, 1, num_bytes=9 * MEGABYTE)
    (tmp_path / "big.jpg").unlink()
    (tmp_path / "big.jpg").mkdir()
    crowded = archive.retention(max_megabytes=1, max_days_ok=100).tick()
    assert (crowded.num_removed, crowded.is_more) == (0, False)  # it is not tried again at once
    assert "make room" in crowded.text
    assert (tmp_path.parent / "x.jpg").exists()


def test_files_without_a_result_go_after_an_hour(tmp_path):
    names = {"known", "orphan", "young"}
    folder = tmp_path / "2026-11-25" / "OK"
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.jpg").write_bytes(b"")
    for name in ("known", "orphan"):
        os.utime(folder / f"{name}.jpg", (0, 0))
    (folder / "before.jpg").write_bytes(b"")
    os.utime(folder / "before.jpg", (-100, -100))
    orphans = Orphans(tmp_path, lambda asked: {name for name in asked if "known" in name}, lambda: -50.0)
    assert [orphans.step() for _ in range(4)] == [0, 1, 0, 0]
    assert sorted(path.stem for path in folder.iterdir()) == ["before", "known", "young"]


def test_empty_folders_go(tmp_path):
    folder = tmp_path / "2026-11-25" / "OK"
    folder.mkdir(parents=True)
    os.utime(folder, (0, 0))
    orphans = Orphans(tmp_path, lambda asked: set(), lambda: 0.0)
    orphans.step()
    orphans.step()
    assert list(tmp_path.iterdir()) == []
