"""References and challenge parts as façades see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from judo_edge.errors import ImageError, InputError
from judo_edge.runtime.references import ReferenceStore
from judo_edge.station.judge.shelf import ReferenceShelf
from judo_edge.station.masters import masters_of_recipe
from judo_edge.vision.photos import image_from_file
from tests.scripted import photo, save_photo


def test_references_come_and_go(tmp_path: Path) -> None:
    shelf = ReferenceShelf(ReferenceStore(tmp_path / "store"))
    first = shelf.enroll("lid/7", save_photo(tmp_path / "a.png", 5), "")
    second = shelf.enroll("lid/7", save_photo(tmp_path / "b.png", 6), "result r7")
    assert (first.source, second.source) == ("a.png", "result r7")
    with pytest.raises(InputError, match="same pixels"):
        shelf.enroll("lid/7", tmp_path / "a.png", "")
    retired = shelf.retire("lid/7", first.reference_id)
    assert retired.retired and shelf.references("lid/7") == (retired, second) and shelf.references("cap") == ()
    path = shelf.file("lid/7", first.reference_id)
    assert path is not None and (image_from_file(path) == photo(5)).all()


def test_what_is_no_reference_is_refused(tmp_path: Path) -> None:
    shelf = ReferenceShelf(ReferenceStore(tmp_path / "store"))
    (tmp_path / "text.png").write_text("no photo")
    with pytest.raises(ImageError):
        shelf.enroll("lid", tmp_path / "text.png", "")
    with pytest.raises(InputError):
        shelf.retire("lid", "../other/0123456789abcdef")
    assert shelf.file("lid", "../../text") is None and shelf.references("lid") == ()


def test_masters_say_what_is_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "masters"
    assert list(masters_of_recipe(folder, "lid")) == []
    for name in ("fail/b.png", "fail/a.jpg", "pass/c.png"):
        save_photo(folder / "lid" / name, 5)
    (folder / "lid" / "fail" / "notes.txt").write_text("")
    found = [(one.path.name, one.wanted.value) for one in masters_of_recipe(folder, "lid")]
    assert found == [("a.jpg", "NOK"), ("b.png", "NOK"), ("c.png", "OK")]
