from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from judo_edge.errors import CameraError, CameraFault, ConfigError, OutputError
from judo_edge.runtime.sources.watched import WatchedFolder

PART_ID = r"^(?P<part_id>[A-Z]\d+)_"


def _photo(path: Path, grey: int = 100, modified: float | None = None) -> Path:
    PillowImage.fromarray(np.full((24, 32, 3), grey, np.uint8)).save(path)
    if modified is not None:
        os.utime(path, (modified, modified))
    return path


def _folder(tmp_path: Path, **settings: object) -> WatchedFolder:
    return WatchedFolder(tmp_path, **{"settle": 0.05, "poll": 0.01, "give_up": 0.2, **settings})  # type: ignore[arg-type]


def _fault(folder: WatchedFolder, timeout: float = 0.3) -> CameraError:
    with pytest.raises(CameraError) as caught:
        folder.grab(timeout)
    return caught.value


def test_photos_come_by_time_then_name_with_their_part_ids(tmp_path: Path) -> None:
    _photo(tmp_path / "A1_late.png", 1, modified=300)
    _photo(tmp_path / "B7_b.png", 2, modified=200)
    _photo(tmp_path / "B7_a.png", 3, modified=200)
    _photo(tmp_path / "other.png", 4, modified=100)
    with _folder(tmp_path, part_id=PART_ID) as folder:
        frames = [folder.grab(5) for _ in range(4)]
    assert [(Path(frame.path).name, frame.part_id) for frame in frames] == [
        ("other.png", ""),
        ("B7_a.png", "B7"),
        ("B7_b.png", "B7"),
        ("A1_late.png", "A1"),
    ]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [4, 3, 2, 1]
    assert [frame.frame_number for frame in frames] == [1, 2, 3, 4]
    assert {path.name for path in (tmp_path / "done").iterdir()} == {Path(frame.path).name for frame in frames}


def test_a_photo_moves_when_the_next_is_asked_for_so_a_crash_brings_it_again(tmp_path: Path) -> None:
    photo = _photo(tmp_path / "one.png")
    crashed = _folder(tmp_path)
    crashed.open()
    assert crashed.grab(5).path == str(photo)
    with _folder(tmp_path) as folder:  # the first process died without a close
        assert folder.grab(5).path == str(photo)
        assert _fault(folder).fault is CameraFault.TIMEOUT
        assert not photo.exists()
    with _folder(tmp_path) as folder:
        assert _fault(folder).fault is CameraFault.TIMEOUT


def test_photos_are_kept_until_acknowledged(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        _photo(tmp_path / name)
    with _folder(tmp_path, keep_until_acknowledged=True) as folder:
        first, second = folder.grab(5), folder.grab(5)
        assert Path(first.path).exists()
        folder.acknowledge(second.path)
        assert _fault(folder).fault is CameraFault.TIMEOUT
    assert Path(first.path).exists()
    assert not Path(second.path).exists()
    with _folder(tmp_path, keep_until_acknowledged=True) as folder:
        assert folder.grab(5).path == first.path


def test_a_file_written_in_place_comes_when_it_is_complete(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = _photo(tmp_path_factory.mktemp("other") / "x.png").read_bytes()
    pieces = [data[start : start + 20] for start in range(0, len(data), 20)]

    def write() -> None:
        with (tmp_path / "x.png").open("wb", buffering=0) as stream:
            for piece in pieces:
                stream.write(piece)
                time.sleep(0.02)

    with _folder(tmp_path, settle=0.05, give_up=30) as folder:
        writer = threading.Thread(target=write)
        writer.start()
        grabbed = folder.grab(20)
        writer.join()
    assert grabbed.image.shape == (24, 32, 3)
    assert {path.name for path in (tmp_path / "failed").iterdir()} == set()


def test_a_renamed_file_comes_and_hidden_or_partial_names_do_not(tmp_path: Path) -> None:
    with _folder(tmp_path) as folder:
        shutil.copy(_photo(tmp_path / ".hidden.png"), tmp_path / "x.png.part")
        assert _fault(folder).fault is CameraFault.TIMEOUT
        (tmp_path / "x.png.part").rename(tmp_path / "x.png")
        assert Path(folder.grab(5).path).name == "x.png"


def test_a_broken_file_fails_with_its_part_and_the_next_one_comes(tmp_path: Path) -> None:
    whole = _photo(tmp_path / "B2_good.jpg")
    (tmp_path / "B1_torn.jpg").write_bytes(whole.read_bytes()[:200])
    os.utime(tmp_path / "B1_torn.jpg", (1, 1))
    with _folder(tmp_path, part_id=PART_ID) as folder:
        assert folder.grab(5).part_id == "B2"  # it is not held up by the torn one, which may still be written to
        error = _fault(folder, 5)
    assert (error.fault, error.part_id) == (CameraFault.UNREADABLE, "B1")
    assert error.path == str(tmp_path / "failed" / "B1_torn.jpg")
    assert Path(error.path).stat().st_size == 200


def test_nothing_moved_is_written_over(tmp_path: Path) -> None:
    with _folder(tmp_path) as folder:
        for grey in (1, 2, 3):
            _photo(tmp_path / "same.png", grey)
            folder.grab(5)
            folder.acknowledge(str(tmp_path / "same.png"))
    assert sorted(path.name for path in (tmp_path / "done").iterdir()) == ["same-2.png", "same-3.png", "same.png"]


def test_a_folder_that_goes_is_unplugged(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with WatchedFolder(inbox, settle=0.05, poll=0.01) as folder:
        shutil.rmtree(inbox)
        assert _fault(folder).fault is CameraFault.UNPLUGGED
        with pytest.raises(CameraError):
            folder.check()
    with pytest.raises(CameraError, match="no folder"):
        folder.open()


def test_a_share_that_comes_back_brings_no_photo_twice(tmp_path: Path) -> None:
    inbox, away = tmp_path / "inbox", tmp_path / "away"
    inbox.mkdir()
    _photo(inbox / "a.png")
    folder = WatchedFolder(inbox, settle=0.05, poll=0.01)
    folder.open()
    folder.grab(5)
    inbox.rename(away)
    assert _fault(folder).fault is CameraFault.UNPLUGGED
    folder.close()
    away.rename(inbox)
    _photo(inbox / "b.png")
    with folder:
        assert Path(folder.grab(5).path).name == "b.png"
        assert (inbox / "done" / "a.png").exists()


def test_a_folder_that_cannot_be_moved_to_is_told_and_brings_no_photo_twice(tmp_path: Path) -> None:
    (tmp_path / "failed").write_text("in the way")
    with pytest.raises(OutputError):
        _folder(tmp_path).open()
    (tmp_path / "failed").unlink()
    photo = _photo(tmp_path / "a.png")
    folder = _folder(tmp_path)
    folder.open()
    folder.grab(5)
    (tmp_path / "done").rmdir()
    (tmp_path / "done").write_text("in the way")
    assert _fault(folder).fault is CameraFault.UNPLUGGED
    folder.close()
    assert photo.exists()
    (tmp_path / "done").unlink()
    with folder:
        assert _fault(folder).fault is CameraFault.TIMEOUT
    assert not photo.exists()


@pytest.mark.parametrize("text", ["(?P<part_id>", "(?P<part>x)"])
def test_a_pattern_without_the_group_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        WatchedFolder(tmp_path, part_id=text)
