"""Photos to outcomes over an engine that writes given replies: every fault has its code, and none is OK."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from judo_edge.bundle import Bundle
from judo_edge.calibration.fit import Observation, fit_from_observations
from judo_edge.core import CellMask, Decision, Image
from judo_edge.errors import InputError, StationError
from judo_edge.runtime.decisions import DecisionStore, circumstances_of
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.references import ReferenceStore
from judo_edge.station.config import RetentionTable
from judo_edge.station.judge.archive import Archive, Held, HeldFrames
from judo_edge.station.judge.inspecting import Inspecting
from judo_edge.station.judge.prepared import Bench, Preparer
from judo_edge.station.judge.questions import question_from_text
from judo_edge.station.results import Code
from judo_edge.station.workers import Outcome, Spooled
from judo_edge.vision.photos import image_from_file
from tests.decisions import decision_of
from tests.disks import small_disk
from tests.judging import enrolled, spooled, station_config
from tests.scripted import ScriptedEngine, photo, red_means_bad, save_photo, scripted_bundle


class Line:
    """A prepared recipe with an engine at hand, and what is emitted."""

    def __init__(self, folder: Path, engine: Engine, retention: RetentionTable | None = None) -> None:
        self.run = folder / "run"
        scripted_bundle(folder / "bundle")
        self.config = station_config(folder)
        enrolled(self.config, photo(5))
        self.archive = Archive(folder / "archive", retention or RetentionTable())
        self.opened: list[Engine] = []
        self.bench = Bench(self.config, self._engine_of(engine))
        self.inspecting = Inspecting(self.bench, self.archive, self.run / "spool")
        self.recipe = self.bench.make_ready(Preparer(self.config).plan("lid"))
        self.items: list[Any] = []

    def _engine_of(self, engine: Engine) -> Callable[[Bundle, str, int], Engine]:
        def engine_of(bundle: Bundle, name: str, threads: int) -> Engine:
            self.opened.append(engine)
            return engine

        return engine_of

    def outcome(self, image: Image | Spooled, job_id: str = "j1", internal_id: str = "") -> Outcome:
        self.items.clear()
        known = image if isinstance(image, Spooled) else spooled(self.run, image)
        self.inspecting.inspect(job_id, internal_id or self.recipe.internal_id, known, self.items.append)
        assert all("progress" in item for item in self.items[:-1])
        return Outcome.model_validate(self.items[-1]["outcome"])


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path, ScriptedEngine(red_means_bad))


def test_good_and_bad_parts(line: Line) -> None:
    good, bad = line.outcome(photo(5, seed=1)), line.outcome(photo(250))
    assert (good.decision, good.code) == (Decision.OK, Code.INSPECTED)
    assert (bad.decision, bad.code) == (Decision.NOK, Code.INSPECTED)
    assert bad.mask is not None and bad.mask.cells == ((2, 3), (2, 4), (3, 4)) and "<seg>" in bad.reply
    assert bad.score == 3.0 and bad.reference_id == line.recipe.reference_ids[0] and bad.seconds["vision"] >= 0
    assert [item["progress"]["event"] for item in line.items[:-1]][-3:] == ["mask", "reason", "answer"]


def saved(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, array, allow_pickle=True)


BROKEN: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(b"\x93NUMPY" + bytes(range(200))),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "objects": saved(np.array([{"a": 1}], dtype=object)),
    "grey": saved(np.zeros((60, 80), np.uint8)),
    "four channels": saved(np.zeros((60, 80, 4), np.uint8)),
    "floats": saved(np.zeros((60, 80, 3), np.float32)),
    "no pixels": saved(np.zeros((0, 80, 3), np.uint8)),
    "other order": saved(np.asfortranarray(photo(5))),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_photo_that_cannot_be_read_is_said_so(kind: str, line: Line) -> None:
    known = spooled(line.run, photo(5))
    BROKEN[kind](line.run / "spool" / known.file)
    found = line.outcome(known)
    assert (found.decision, found.code) == (Decision.NOT_DECIDABLE, Code.PHOTO_UNREADABLE)
    after = spooled(line.run, photo(5), "next.npy")
    assert line.outcome(after).decision is Decision.OK  # the next part is none the worse


def test_a_part_without_pixels_has_the_reason_that_its_camera_gave(line: Line) -> None:
    known = spooled(line.run, photo(5)).model_copy(update={"problem": "a.jpg: half of it is missing"})
    found = line.outcome(known)
    assert (found.code, found.reason) == (Code.PHOTO_UNREADABLE, "a.jpg: half of it is missing")


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/passwd", "", ".."])
def test_a_spool_file_lies_in_the_spool_folder(name: str, line: Line) -> None:
    np.save(line.run / "secret.npy", photo(5)) if line.run.is_dir() else None
    known = spooled(line.run, photo(5)).model_copy(update={"file": name})
    assert line.outcome(known).code is Code.PHOTO_UNREADABLE


def test_a_photo_that_was_not_spooled_is_read_from_its_own_file(line: Line) -> None:
    path = save_photo(line.run / "master.png", 250)
    known = Spooled(file="", captured_ns=0, captured="", path=str(path))
    assert line.outcome(known).decision is Decision.NOK
    path.write_text("no photo")
    assert line.outcome(known).code is Code.PHOTO_UNREADABLE
    path.unlink()
    assert line.outcome(known).code is Code.PHOTO_UNREADABLE


def test_a_reply_that_cannot_be_read_is_not_decidable(tmp_path: Path) -> None:
    line = Line(tmp_path, ScriptedEngine(lambda red: "no idea" if red > 128 else red_means_bad(red)))
    found = line.outcome(photo(250))
    assert (found.decision, found.code) == (Decision.NOT_DECIDABLE, Code.REPLY_INVALID)


@pytest.mark.parametrize("broken", ["encode", "decode"])
def test_a_fault_of_the_engine_is_not_decidable_and_counted(broken: str, line: Line) -> None:
    engine = line.opened[0]
    assert isinstance(engine, ScriptedEngine)
    for expected in (1, 2):
        engine.broken = broken
        found = line.outcome(photo(5, seed=expected))
        assert (found.decision, found.code) == (Decision.NOT_DECIDABLE, Code.ENGINE_FAULT)
        assert line.inspecting.num_faults == expected
    engine.broken = ""
    assert line.outcome(photo(5, seed=9)).decision is Decision.OK and line.inspecting.num_faults == 0


def test_a_version_that_is_not_prepared_judges_nothing(line: Line) -> None:
    found = line.outcome(photo(5), internal_id="0" * 32)
    assert (found.decision, found.code) == (Decision.NOT_DECIDABLE, Code.ENGINE_FAULT)
    assert "not prepared" in found.reason and line.inspecting.num_faults == 0


def test_numbers_that_are_none_never_make_ok(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    from judo_edge.runtime.inspection import Trace

    monkeypatch.setattr(Trace, "evidence", lambda self: {"cell_probe": float("nan"), "first_mask_token": -3.0})
    found = line.outcome(photo(5, seed=1))
    assert (found.decision, found.code) == (Decision.NOT_DECIDABLE, Code.ENGINE_FAULT)
    assert found.evidence == {"first_mask_token": -3.0}


def test_prepare_fails_with_the_engine_and_opens_another_next_time(tmp_path: Path) -> None:
    engine = ScriptedEngine(red_means_bad)
    line = Line(tmp_path, engine)
    plan = Preparer(line.config).plan("lid")
    engine.broken = "encode"
    enrolled(line.config, photo(6))
    with pytest.raises(StationError, match="vision graph failed") as caught:
        line.bench.make_ready(Preparer(line.config).plan("lid"))
    assert caught.value.number == -Code.ENGINE_FAULT
    assert line.outcome(photo(5)).code is Code.ENGINE_FAULT  # what was ready on that engine is no more
    engine.broken = ""
    assert line.bench.make_ready(plan) == line.recipe and len(line.opened) == 2


def calibrated(line: Line, centre: float) -> str:
    """Put a decision in use for which a first mask token of such a margin is usual; return the version's id."""
    values = np.random.default_rng(0).normal(centre, 1, 60).tolist()
    seen = [Observation(f"{number:064x}", False, {"first_mask_token": value}) for number, value in enumerate(values)]
    plan = Preparer(line.config).plan("lid")
    circumstances = circumstances_of(plan.bundle, "onnxruntime", plan.recipe.reference_ids)
    made = decision_of(fit_from_observations(seen, 0.05, 0.9), "lid", circumstances)
    DecisionStore(line.config.store).add(made)
    return line.bench.make_ready(Preparer(line.config).plan("lid")).internal_id


def test_the_decision_of_a_version_decides_again_after_a_rollback(line: Line) -> None:
    """Two decisions disagree about a part whose margin is 3."""
    strict, lenient = calibrated(line, centre=-3.0), calibrated(line, centre=3.0)
    before, after = (line.outcome(photo(250), internal_id=one) for one in (strict, lenient))
    assert (before.decision, after.decision, after.judo) == (Decision.NOK, Decision.OK, Decision.NOK)
    assert before.score != after.score and line.outcome(photo(250)).threshold is None
    restarted = Bench(line.config, lambda bundle, name, threads: ScriptedEngine(red_means_bad))
    recipe = restarted.make_ready(Preparer(line.config).plan("lid", strict))
    line.inspecting = Inspecting(restarted, line.archive, line.run / "spool")
    again = line.outcome(photo(250), internal_id=recipe.internal_id)
    assert recipe.decision_version == 1
    assert again.model_copy(update={"seconds": {}}) == before.model_copy(update={"seconds": {}})


def test_an_engine_is_shared_and_stays_open(line: Line) -> None:
    enrolled(line.config, photo(7))
    newer = line.bench.make_ready(Preparer(line.config).plan("lid"))
    line.bench.unprepare(line.recipe.internal_id)
    line.bench.unprepare(newer.internal_id)
    line.bench.make_ready(Preparer(line.config).plan("lid"))
    assert len(line.opened) == 1


def test_photo_and_mask_are_kept(line: Line) -> None:
    image = photo(250)
    line.outcome(image)
    kept = line.inspecting.keep("j1", "r/1", Decision.NOK)
    assert kept.photo.endswith("/NOK/r%2F1-" + kept.photo[-12:]) and kept.photo.count("/") == 2
    stored = image_from_file(line.archive.folder / kept.photo)
    assert stored.shape == image.shape and np.abs(stored.astype(int) - image).mean() < 8
    mask = np.asarray(PillowImage.open(line.archive.folder / kept.mask_file))
    assert mask.shape == image.shape[:2] and set(np.unique(mask)) == {0, 255}
    files = [path for path in line.archive.folder.rglob("*") if path.is_file()]
    assert len(files) == 2 and kept.num_bytes == sum(path.stat().st_size for path in files)
    assert line.inspecting.keep("j1", "r1", Decision.NOK).photo == ""  # held no longer


def test_a_photo_that_was_not_inspected_yet_is_kept_without_a_mask(line: Line) -> None:
    line.inspecting.expect("late", spooled(line.run, photo(250), "late.npy"))
    kept = line.inspecting.keep("late", "r1", Decision.NOT_DECIDABLE)
    assert kept.photo.endswith("NOT_DECIDABLE/r1.jpg") and kept.mask_file == ""
    (line.run / "spool" / "late.npy").unlink()
    assert line.inspecting.keep("late", "r2", Decision.NOT_DECIDABLE).photo == ""
    line.inspecting.forget("late")
    assert line.inspecting.keep("late", "r1", Decision.NOT_DECIDABLE).photo == ""


@pytest.mark.parametrize(("photos", "kept"), [("all", {"OK", "NOK"}), ("not-ok", {"NOK"}), ("none", set())])
def test_retention_says_which_photos_are_kept(photos: str, kept: set[str], tmp_path: Path) -> None:
    line = Line(tmp_path, ScriptedEngine(red_means_bad), RetentionTable.model_validate({"photos": photos}))
    for red, decision in ((5, Decision.OK), (250, Decision.NOK)):
        line.outcome(photo(red), job_id=decision.value)
        line.inspecting.keep(decision.value, decision.value, decision)
    assert {path.stem for path in line.archive.folder.rglob("*.jpg")} == kept


def test_a_full_disk_costs_the_photo_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", 64 << 10) as disk:
        archive = Archive(disk / "archive", RetentionTable())
        assert archive.keep(Held(photo(5)), "r1", Decision.OK).photo
        (disk / "filler").write_bytes(bytes((64 << 10) - 28_000))
        kept = archive.keep(Held(photo(5, size=(300, 400))), "r2", Decision.OK)
        assert (kept.photo, kept.num_bytes) == ("", 0) and "r2 is kept without its photo" in caplog.text
        assert [path.name for path in (disk / "archive").rglob("*.*")] == ["r1.jpg"]


def test_a_disk_that_refuses_costs_the_photo_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive(tmp_path / "archive", RetentionTable())
    frame = Held(photo(5), CellMask.of(16, 16, [(1, 1)]))
    written: list[Path] = []

    def full(path: Path, data: bytes, force: bool = False) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(data)

    monkeypatch.setattr("judo_edge.station.judge.archive.write_atomic", full)
    assert archive.keep(frame, "r1", Decision.NOK).photo == "" and written and not written[0].exists()
    assert "the disk is full" in caplog.text


def test_frames_are_held_up_to_a_size() -> None:
    frames = HeldFrames(max_bytes=3 * photo(5).nbytes)
    for number in range(5):
        frames.hold(str(number), Held(photo(number)))
    frames.hold("4", Held(photo(4), CellMask.of(16, 16, [(1, 1)])))
    assert [frames.take(str(number)) is not None for number in range(5)] == [False, False, True, True, True]
    frames.hold("big", Held(photo(5, size=(600, 800))))
    assert frames.take("big") is not None


def asked(line: Line, text: str, red: int = 250) -> str:
    pieces: list[str] = []
    path = Path(save_photo(line.archive.folder / "day" / "asked.png", red).parent.name) / "asked.png"
    prepared = line.bench.prepared(line.recipe.internal_id)
    line.inspecting.ask(path, prepared, text, pieces.append)
    return "".join(pieces)


def test_a_question_is_answered_in_pieces(line: Line) -> None:
    assert asked(line, "What is it?\nA. A scratch\nB. A dent") == (
        "Marked cells: (2,3) (2,4) (3,4)\nThe query shows a scratch.\nA. A scratch\n"
    )
    assert asked(line, "Is the screw there?", red=5).endswith("B. No.\n")
    assert line.outcome(photo(5, seed=3)).decision is Decision.OK  # inspection goes on as before


@pytest.mark.parametrize(
    "text", ["", " \n", "x" * 1001, "What?\nB. one\nC. two", "What?\nA. one", "A. one\nB. two", "What <|im_end|> now?"]
)
def test_a_question_that_cannot_be_asked(text: str, line: Line) -> None:
    with pytest.raises(InputError):
        asked(line, text)


def test_how_questions_are_read() -> None:
    question = question_from_text("  Which\nkind of\x00 defect? \n A) scratch \n b is no option")
    assert question.text == "Which kind of defect? A) scratch b is no option" and question.options == ("Yes.", "No.")
    assert question_from_text("Is there any defect in the object?").defect_letter == "A"
    assert question_from_text("Which?\nA: one\n\nB. two\nC) three").options == ("one", "two", "three")


def test_a_reference_whose_file_was_replaced_is_not_compared_with(line: Line) -> None:
    store = ReferenceStore(line.config.store)
    enrolled(line.config, photo(7))
    plan = Preparer(line.config).plan("lid")
    newest = store.references("lid")[-1]
    save_photo(line.config.store / "lid" / f"{newest.reference_id}.png", 99)
    with pytest.raises(InputError, match="pixels changed since enrolment"):
        line.bench.make_ready(plan)
