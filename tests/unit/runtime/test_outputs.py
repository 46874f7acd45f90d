"""What a run leaves on the disk: whole lines, masks at the photo's size, a report that nothing can break out of."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from judo_edge.core import CellMask, Decision, Frame, Reply, Timing, Verdict
from judo_edge.errors import OutputError
from judo_edge.protocol.reply import reply_from_text
from judo_edge.runtime.inspection import Inspection, undecidable
from judo_edge.runtime.masks import file_stem, path_from_cells, path_from_grid
from judo_edge.runtime.outputs import RunOutput
from judo_edge.runtime.records import VerdictLog, record_from_verdict
from judo_edge.runtime.references import ReferencePhoto
from judo_edge.runtime.report import RunFacts
from judo_edge.runtime.sources.folder import Unreadable
from tests.scripted import BAD, GRID, photo

FACTS = RunFacts("lid", "scripted", "0" * 64, (GRID, GRID), 3)
EVIL = "</pre></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{7*7}}"


def verdict(name: str = "f", text: str = BAD, score: float | None = 2.5) -> Verdict:
    reply: Reply = reply_from_text(text, GRID, GRID)
    timing = Timing({"load": 0.01, "patches": 0.02, "decode": 0.5})
    return Verdict(
        name, "lid", Decision.NOK, "a scratch", score, {"m": 2.5}, reply, "ab12", timing, 30, f"/in/{name}.png"
    )


def frame(name: str = "f") -> Frame:
    return Frame(name, "lid", photo(9), 0, f"/in/{name}.png")


def reference() -> ReferencePhoto:
    return ReferencePhoto("ab12", "ab12" * 16, lambda: photo(3))


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """Let no file grow over `num_bytes`, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Tags(HTMLParser):
    """Collects the tags and attributes that a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_run_folder_holds_line_mask_and_report(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with RunOutput(out, FACTS) as output:
        output.add(frame(), Inspection(verdict(), reference()))
        line = json.loads((out / "verdicts.jsonl").read_text())
        bad = Unreadable("g", "lid", "/in/g.png", "g.png: not a photo")
        output.add(bad, Inspection(undecidable(bad, bad.reason)))
    assert line["decision"] == "NOK" and line["reply"]["mask"]["cells"] == [[2, 3], [2, 4], [3, 4]]
    mask = np.asarray(PillowImage.open(out / line["mask_file"]))
    assert mask.shape == (60, 80) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
    assert mask[60 // 16 + 1, 2 * 80 // 16 + 1] == 255 and mask[0, 0] == 0
    lines = [json.loads(text) for text in (out / "verdicts.jsonl").read_text().splitlines()]
    assert [entry["decision"] for entry in lines] == ["NOK", "NOT_DECIDABLE"]
    assert lines[1]["mask_file"] is None and lines[1]["reply"] is None and lines[1]["reason"] == "g.png: not a photo"
    assert sorted(path.name for path in out.iterdir()) == ["masks", "report.html", "verdicts.jsonl"]


def test_report_needs_nothing_else_and_shows_what_was_decided(tmp_path: Path) -> None:
    with RunOutput(tmp_path / "out", FACTS) as output:
        output.add(frame("one"), Inspection(verdict("one"), reference()))
        output.add(frame("two"), Inspection(verdict("two"), reference()))
    page = (tmp_path / "out" / "report.html").read_text()
    seen = Tags(page)
    assert not {"link", "iframe", "object", "embed", "base"} & set(seen.tags)
    assert not [value for name, value in seen.attributes if name in ("src", "href", "action", "data")]
    assert page.count("url(data:image/jpeg;base64,/9j/") == page.count("url(") == 3, "two queries, one reference"
    for text in ("one", "two", "a scratch", "+2.50", "The query shows a scratch.", "decode", "2 of 3 photos"):
        assert text in seen.text
    assert "The run was stopped" not in page


def test_nothing_breaks_out_of_the_report(tmp_path: Path) -> None:
    evil = verdict(EVIL, text=BAD.replace("a scratch", EVIL))
    evil = Verdict(**{**evil.__dict__, "reason": EVIL, "part": EVIL, "path": EVIL, "reference_id": EVIL})
    facts = RunFacts(EVIL, EVIL, EVIL, (GRID, GRID), 1)
    with RunOutput(tmp_path / "out", facts) as output:
        output.add(frame(EVIL), Inspection(evil, reference()))
    seen = Tags((tmp_path / "out" / "report.html").read_text())
    assert seen.tags.count("script") == 1 and "img" not in seen.tags
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert "alert(1)" in seen.text and "{{7*7}}" in seen.text, "shown as text"


def test_interrupted_run_keeps_lines_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RunOutput(tmp_path / "out", FACTS) as output:
        output.add(frame(), Inspection(verdict(), reference()))
        raise KeyboardInterrupt
    assert len((tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()) == 1
    assert "The run was stopped: 2 of 3 photos" in (tmp_path / "out" / "report.html").read_text()


def test_existing_folder_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for force, why in ((False, "exists already"), (True, "not the output of a run")):
        with pytest.raises(OutputError, match=why), RunOutput(out, FACTS, force):
            pass
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_force_replaces_an_earlier_run_only(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with RunOutput(out, FACTS) as output:
        output.add(frame("old"), Inspection(verdict("old"), reference()))
    (out / "mine.txt").write_text("mine")
    with RunOutput(out, FACTS, force=True) as output:
        output.add(frame("new"), Inspection(verdict("new"), reference()))
    assert [path.name for path in (out / "masks").iterdir()] == ["new.png"]
    assert '"old"' not in (out / "verdicts.jsonl").read_text() and (out / "mine.txt").read_text() == "mine"


def test_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path / "verdicts.jsonl")
    line = record_from_verdict(verdict())
    size = len(json.dumps(line, ensure_ascii=False)) + 1
    with full_disk(size * 2 + 10), log:
        log.append(line)
        log.append(line)
        for _ in range(2):
            with pytest.raises(OutputError) as caught:
                log.append(line)
            assert "\n" not in str(caught.value)
    lines = log.path.read_text().splitlines()
    assert [json.loads(text)["frame_id"] for text in lines] == ["f", "f"]


def test_full_disk_in_a_run_keeps_what_was_made(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError), full_disk(2500), RunOutput(out, FACTS) as output:
        for number in range(10):
            output.add(frame(f"f{number}"), Inspection(verdict(f"f{number}"), reference()))
    lines = [json.loads(text) for text in (out / "verdicts.jsonl").read_text().splitlines()]
    assert 0 < len(lines) < 10
    for entry in lines:
        assert np.asarray(PillowImage.open(out / entry["mask_file"])).shape == (60, 80)
    assert not list(out.rglob("*.partial-*")) and not (out / "report.html").exists()


@pytest.mark.parametrize("name", ["a/b", "..", "ü" * 200, "x" * 300, "a\\b:c", ".hidden", "line\nbreak", "odd\udc80"])
def test_frame_names_make_safe_file_names(name: str) -> None:
    stem = file_stem(name)
    assert "/" not in stem and not stem.startswith(".") and 0 < len(stem) < 140 and "\\" not in stem
    assert stem.isascii() and stem.isprintable()


def test_frame_names_stay_apart_and_plain_ones_stay_plain() -> None:
    assert file_stem("lid_007 (2)") == "lid_007 (2)"
    assert len({file_stem(name) for name in ("a/b", "a%2Fb", "a b", ".a b", "x" * 300, "x" * 301)}) == 6


def test_paths_draw_each_cell_once() -> None:
    assert path_from_cells(CellMask.of(4, 4, [(2, 1), (1, 4)])) == "M3 0h1v1h-1zM0 1h1v1h-1z"
    assert path_from_grid(2, 3) == "M0 1H3M1 0V2M2 0V2"
