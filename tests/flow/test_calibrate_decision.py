"""`judo-edge calibrate-decision` as a user types it, over an engine that writes given replies."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from judo_edge.bundle import open_bundle
from judo_edge.cli import main
from judo_edge.core import Decision
from judo_edge.runtime import ReferenceStore, calibrating, engines
from judo_edge.runtime.decisions import DecisionStore, applicable_decision, circumstances_of
from judo_edge.station.ledger import writing
from judo_edge.station.ledger.database import open_database
from judo_edge.station.results import Code, Job, JobRequest, Result, ResultState, utc_now
from judo_edge.station.workers import Kept
from judo_edge.vision.photos import image_from_file, sha256_from_image
from tests.scripted import save_photo, scripted_bundle

STORE = Path("references")


@pytest.fixture(autouse=True)
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand at a line: a bundle, two enrolled references, 24 more good parts and four defects, one of them missed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(engines._ENGINES, "onnxruntime", ("tests.scripted", "engine_from_bundle", ""))
    scripted_bundle(tmp_path / "bundle")
    for number in range(24):
        save_photo(tmp_path / "good" / f"g{number:02d}.png", 5, seed=number)
    for number in range(2):
        save_photo(tmp_path / "enrolled" / f"r{number}.png", 5, seed=100 + number)
    for number, red in enumerate((250, 240, 230, 20)):
        save_photo(tmp_path / "defects" / f"d{number}.png", red, seed=200 + number)
    assert main(["enroll", "--part", "lid", "enrolled"]) == 0
    return tmp_path


def calibrate(*more: str, good: str = "good", bundle: str = "bundle") -> int:
    return main(["calibrate-decision", bundle, "--part", "lid", "--good", good, *more])


def snapshot() -> dict[str, bytes]:
    """Return every file but those that only save time: what is kept of references, and earlier replies."""
    files = (path for path in Path().rglob("*") if path.is_file())
    kept = (path for path in files if ".embeddings" not in path.parts and not path.name.startswith("replies-"))
    return {str(path): path.read_bytes() for path in kept}


def in_use() -> int:
    found = DecisionStore(STORE).in_use("lid")
    assert found is not None
    return found.version


def test_good_parts_become_a_decision_that_says_what_it_promises(capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate() == 0
    out = capsys.readouterr().out
    assert "decision 1 of part lid is in use" in out and "1 % at confidence 90 % takes 230" in out
    decision = DecisionStore(STORE).in_use("lid")
    assert decision is not None and decision.rule.needs == (
        "answer_letter",
        "feature_distance",
        "first_mask_token",
    )
    assert len(decision.photos) == 24 and decision.guarantee.num_photos == 14
    usual = {sign.name: sign.centre for sign in decision.rule.signs}
    assert usual["first_mask_token"] == -3.0 and usual["answer_letter"] == -8.0
    assert decision.decide(usual).decision is Decision.OK
    assert decision.decide({**usual, "first_mask_token": 3.0, "answer_letter": 8.0}).decision is Decision.NOK


def test_defects_are_counted_by_rules_that_did_not_see_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate("--defects", "defects", "--budget", "0.2", "--confidence", "0.8") == 0
    out = capsys.readouterr().out
    assert "defects caught: 3 of 4, each by a rule fitted without it" in out and "takes" not in out
    assert re.search(r"at most 20 % of good parts like these are rejected, with confidence [89]", out)


def test_it_is_applied_to_this_bundle_and_these_references_only() -> None:
    assert calibrate("--sign", "first_mask_token") == 0
    ids = [reference.reference_id for reference in ReferenceStore(STORE).references("lid")]
    here = circumstances_of(open_bundle("bundle"), "onnxruntime", reversed(ids))
    decision, _ = applicable_decision(STORE, "lid", here)
    assert decision is not None and decision.rule.needs == ("first_mask_token",) and decision.guarantee.num_photos == 24
    other = circumstances_of(scripted_bundle(Path("other"), max_new_tokens=90), "onnxruntime", ids)
    decision, reason = applicable_decision(STORE, "lid", other)
    assert decision is None and "made with bundle" in reason
    assert main(["enroll", "--part", "lid", "good/g00.png"]) == 0
    ids = [reference.reference_id for reference in ReferenceStore(STORE).references("lid")]
    assert "1 new" in applicable_decision(STORE, "lid", circumstances_of(open_bundle("bundle"), "onnxruntime", ids))[1]


def test_versions_are_listed_and_an_older_one_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate() == calibrate("--budget", "0.1") == 0
    assert in_use() == 2
    capsys.readouterr()
    assert main(["calibrate-decision", "--part", "lid", "--use", "1"]) == 0 and in_use() == 1
    first, second = (line for line in capsys.readouterr().out.splitlines() if re.match(r"\d", line))
    assert first.startswith("1 in use") and second.startswith("2  ") and " 10 % " in second and " 1 % " in first
    assert main(["calibrate-decision", "--part", "lid", "--list"]) == 0 and in_use() == 1


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail on one line and leave everything as it was."""
    before = snapshot()
    capsys.readouterr()
    assert main(["calibrate-decision", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("lid ") for line in lines[:-1]), "a bar, then one line of error"
    assert lines[-1].startswith("judo-edge: ") and snapshot() == before
    return lines[-1]


def test_wrong_photos_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    start = ("bundle", "--part", "lid", "--good")
    assert "2 good photos; wanted: at least 20" in refused(capsys, *start, "enrolled")
    assert "is the enrolled reference" in refused(capsys, *start, "good", "--good", "enrolled")
    assert "the same pixels as good/g03.png" in refused(capsys, *start, "good", "--good", "good/g03.png")
    assert "the same pixels as good/g03.png" in refused(capsys, *start, "good", "--defects", "good/g03.png")
    assert "no photo in nothing" in refused(capsys, *start, "nothing")
    Path("good/g24.png").write_text("a letter")
    assert "good/g24.png" in refused(capsys, *start, "good")


def test_wrong_settings_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    start = ("bundle", "--part", "lid", "--good", "good")
    assert "a budget of 1.0" in refused(capsys, *start, "--budget", "1")
    assert "a confidence of 90.0" in refused(capsys, *start, "--confidence", "90")
    assert "0 usable good photos" in refused(capsys, *start, "--sign", "smell")
    assert "nothing to calibrate on" in refused(capsys, "bundle", "--part", "lid")
    assert "nothing to calibrate on" in refused(capsys, "--part", "lid", "--good", "good")
    assert "no reference of part 'base'" in refused(capsys, "bundle", "--part", "base", "--good", "good")
    assert "no decision 1 of part 'lid'" in refused(capsys, "--part", "lid", "--use", "1")
    assert "no decision of part 'lid'" in refused(capsys, "--part", "lid", "--list")


def test_ctrl_c_leaves_the_decision_in_use(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert calibrate() == 0
    before, real = snapshot(), calibrating.evidence_from_verdict
    count = iter(range(100))

    def interrupted(verdict: object) -> object:
        if next(count) == 5:
            raise KeyboardInterrupt
        return real(verdict)  # type: ignore[arg-type]

    monkeypatch.setattr(calibrating, "evidence_from_verdict", interrupted)
    assert calibrate() == 130
    assert "stopped after 5 of 24 photos; the decision in use stays as it was" in capsys.readouterr().err
    assert snapshot() == before


def test_a_changed_decision_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate() == 0
    path = STORE / "lid" / "decisions" / "0001.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "threshold": float(np.float64(content["threshold"]) + 1)}))
    assert "was changed after it was written" in refused(capsys, "--part", "lid", "--list")


def station_with_reviews(reviews: list[tuple[str, str]]) -> Path:
    """Write a station's settings, and a ledger in which a person gave verdicts on archived photos of the part."""
    config = Path("STATION.toml")
    config.write_text('[station]\nname = "line-1"\n[[recipes]]\nid = "lid-line"\npart = "lid"\nbundle = "bundle"\n')
    connection = open_database(Path("station-data/ledger.sqlite")).connection
    with closing(connection):
        for number, (photo, verdict) in enumerate(reviews):
            name = f"job-{number}"
            job = Job(job_id=name, request=JobRequest(), recipe_id="a", created=utc_now(), deadline=1.0)
            result = Result(
                number=0, result_id=name, job_id=name, state=ResultState.COMPLETED, decision=Decision.NOK, reason="",
                code=Code.INSPECTED, part="lid", created=utc_now(), triggered=utc_now(),
            )  # fmt: skip
            writing.add_job(connection, job, "boot")
            writing.add_result(connection, result)
            writing.add_evidence(connection, name, Kept(photo=photo))
            writing.add_review(connection, name, verdict, "eva", "")
    return config


def test_photos_that_a_person_judged_are_used_too(capsys: pytest.CaptureFixture[str]) -> None:
    archive = Path("station-data/archive")
    save_photo(archive / "dust.png", 5, seed=300)
    save_photo(archive / "scratch.png", 240, seed=301)
    save_photo(archive / "twice.png", 5, seed=0)  # is good/g00.png
    save_photo(archive / "enrolled.png", 5, seed=100)
    (archive / "broken.png").write_text("no photo")
    verdicts = ["OK", "NOK", "OK", "OK", "OK"]
    names = ["dust", "scratch", "twice", "enrolled", "broken"]
    config = station_with_reviews([(f"{name}.png", verdict) for name, verdict in zip(names, verdicts, strict=True)])
    assert calibrate("--reviews", str(config)) == 0
    err = capsys.readouterr().err
    assert "2 of 5 reviewed photos are used: 1 good, 1 with defects" in err and "no random choice" in err
    decision = DecisionStore(STORE).in_use("lid")
    assert decision is not None
    labels = {photo.sha256: photo.label for photo in decision.photos}
    assert len(labels) == 26
    assert labels[sha256_from_image(image_from_file(archive / "dust.png"))] == "good"
    assert labels[sha256_from_image(image_from_file(archive / "scratch.png"))] == "defect"


def test_reviewed_photos_alone_are_enough_when_there_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    photos = [save_photo(Path(f"station-data/archive/{number}.png"), 5, seed=400 + number) for number in range(20)]
    config = str(station_with_reviews([(photo.name, "OK") for photo in photos]))
    photos[0].unlink()
    assert "19 good photos" in refused(capsys, "bundle", "--part", "lid", "--reviews", config)
    save_photo(photos[0], 5, seed=400)
    assert main(["calibrate-decision", "bundle", "--part", "lid", "--reviews", config]) == 0
    decision = DecisionStore(STORE).in_use("lid")
    assert decision is not None and len(decision.photos) == 20
