"""The command line as a user types it, over an engine that writes given replies; then every way it can go wrong."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from judo_edge.bundle import open_bundle
from judo_edge.bundle.acceptance import Outcome, write_acceptance
from judo_edge.calibration.gates import shipped_gates
from judo_edge.cli import main
from judo_edge.errors import BundleError
from judo_edge.protocol.profile import load_profile
from judo_edge.runtime import Inspector, ReferenceStore, engines
from judo_edge.runtime.engines.base import Encoded
from judo_edge.runtime.stopwatch import STAGES
from tests.scripted import ScriptedEngine, red_means_bad, save_photo, scripted_bundle

FIGURES = ("image_auroc", "cell_auroc", "cell_f1", "recall", "specificity", "invalid")


@pytest.fixture(autouse=True)
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand at a line: a bundle, an enrolled part, photos to inspect."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(engines._ENGINES, "onnxruntime", ("tests.scripted", "engine_from_bundle", ""))
    scripted_bundle(tmp_path / "bundle")
    for number in range(3):
        save_photo(tmp_path / "good" / f"g{number}.png", 5, seed=number)
        save_photo(tmp_path / "photos" / f"p{number}.png", 250 if number == 1 else 5, seed=9 + number)
    assert main(["enroll", "--part", "lid", "good"]) == 0
    return tmp_path


def inspect(*more: str) -> int:
    return main(["inspect", "bundle", "--part", "lid", "--images", "photos", "--out", "out", *more])


def verdicts() -> dict[str, str]:
    lines = Path("out/verdicts.jsonl").read_text().splitlines()
    return {entry["frame_id"]: entry["decision"] for entry in map(json.loads, lines)}


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error, which must be one line without a traceback."""
    text = capsys.readouterr().err.strip()
    assert len(text.splitlines()) == 1 and text.startswith("judo-edge: ") and "Traceback" not in text
    return text


def snapshot() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def write_items(rows: list[tuple[str, ...]]) -> None:
    with Path("items.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "split", "group", "reference", "mask"), *rows])


def labelled_set() -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[4:8, 10:21] = 255
    PillowImage.fromarray(mask).save("mask.png")
    write_items(
        [
            ("good/g0.png", "good", "train", "", "", ""),
            ("photos/p0.png", "good", "accept", "", "", ""),
            ("photos/p2.png", "good", "accept", "", "good/g1.png", ""),
            ("photos/p1.png", "defect", "accept", "", "", "mask.png"),
        ]
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"judo-edge \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_inspect_writes_a_verdict_per_photo(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect() == 0
    assert verdicts() == {"p0": "OK", "p1": "NOK", "p2": "OK"}
    assert "3 photos: 2 OK, 1 NOK, 0 not decidable" in capsys.readouterr().out
    assert Path("out/report.html").is_file() and len(list(Path("out/masks").iterdir())) == 3
    entry = json.loads(Path("out/verdicts.jsonl").read_text().splitlines()[0])
    assert list(entry["seconds"]) == list(STAGES)


def test_bad_files_are_verdicts_and_the_run_goes_on() -> None:
    Path("photos/p05.jpg").write_bytes(b"\xff\xd8 truncated")
    Path("photos/p3.png").write_text("a letter, no photo")
    Path("photos/notes.txt").write_text("left out of a folder")
    assert inspect() == 3
    assert verdicts() == {
        "p0": "OK", "p05": "NOT_DECIDABLE", "p1": "NOK", "p2": "OK", "p3": "NOT_DECIDABLE",
    }  # fmt: skip
    assert "p3.png" in Path("out/report.html").read_text()


def test_pattern_takes_every_file_that_it_names() -> None:
    Path("photos/notes.txt").write_text("asked for")
    assert main(["inspect", "bundle", "--part", "lid", "--images", "photos/*", "--out", "out"]) == 3
    assert verdicts()["notes"] == "NOT_DECIDABLE"


def test_same_names_in_two_folders_stay_apart() -> None:
    save_photo(Path("photos/deep/p1.png"), 5)
    assert main(["inspect", "bundle", "--part", "lid", "--images", "photos/**/*.png", "--out", "out"]) == 0
    assert sorted(verdicts()) == ["p0", "p1", "p1-2", "p2"] and len(list(Path("out/masks").iterdir())) == 4


def test_reference_on_the_command_line_needs_no_store() -> None:
    assert inspect("--store", "nowhere", "--reference", "good/g1.png") == 0
    assert len({json.loads(text)["reference_id"] for text in Path("out/verdicts.jsonl").read_text().splitlines()}) == 1


def test_existing_output_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect() == 0
    before = snapshot()
    capsys.readouterr()
    assert inspect() == 2
    assert "out exists already" in one_line(capsys) and snapshot() == before
    assert inspect("--force") == 0


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--images", "nothing/*.png"], "no photo in nothing/*.png"),
        (["--part", "base"], "no reference of part 'base'"),
        (["--reference", "photos/none.png"], "no photo in photos/none.png"),
    ],
)
def test_wrong_arguments_are_one_line_and_touch_nothing(
    arguments: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert inspect(*arguments) == 2
    assert found in one_line(capsys) and not Path("out").exists()


def test_tampered_bundle_is_named_and_nothing_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bundle/decoder.data").write_text("decoder.dat!")
    capsys.readouterr()
    assert inspect() == 2
    assert "decoder.data was changed" in one_line(capsys) and not Path("out").exists()
    assert main(["info", "bundle"]) == 2


def test_bundle_that_failed_its_verification_is_refused_until_accepted_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = Outcome(("cell_f1", "clear_flips"), "reference", "set/items.csv, split accept, 8 items", "onnxruntime")
    write_acceptance(open_bundle("bundle"), failed, {"status": "failed"})
    capsys.readouterr()
    for some in ([], ["--accept-failed", "cell_f1"]):
        assert inspect(*some) == 2
        assert "clear_flips" in one_line(capsys) and not Path("out").exists()
    assert inspect("--accept-failed", "cell_f1", "--accept-failed", "clear_flips") == 0
    assert "failed its verification: cell_f1, clear_flips" in capsys.readouterr().err
    line = json.loads(Path("out/verdicts.jsonl").read_text().splitlines()[0])
    assert line["acceptance"].startswith("failed: cell_f1, clear_flips")
    assert "verification: failed: cell_f1, clear_flips" in Path("out/report.html").read_text()
    with pytest.raises(BundleError, match="clear_flips"):
        Inspector(
            open_bundle("bundle"), ScriptedEngine(red_means_bad), ReferenceStore(Path("references")).photos("lid")
        )


def verify(*more: str) -> int:
    return main(["verify", "bundle", "--against", "copy", "--items", "items.csv", *more])


def test_verify_never_passes_what_it_could_not_measure(capsys: pytest.CaptureFixture[str]) -> None:
    labelled_set()
    shutil.copytree("bundle", "copy")
    assert verify() == 1  # the same engine on both sides, but three items mean nothing
    shown = capsys.readouterr().out
    assert "not measured: 3 of at" in " ".join(shown.split()) and "bundle: failed" in shown
    (failed,) = (gates.failed for gates in [open_bundle("bundle").manifest.acceptance] if gates)
    assert "reply_agreement" in failed and inspect() == 2
    assert verify() == 2 and "--force" in capsys.readouterr().err


def test_verify_takes_limits_from_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    labelled_set()
    shutil.copytree("bundle", "copy")
    Path("gates.toml").write_text(re.sub(r"items = \d+", "items = 1", shipped_gates().read_text()))
    assert verify("--gates", "gates.toml") == 0
    assert inspect() == 0
    assert json.loads(Path("out/verdicts.jsonl").read_text().splitlines()[0])["acceptance"].startswith("passed")
    Path("gates.toml").write_text("cell_f1 = { at_least = 0.9, items = 1 }\ncell_f2 = 1\n")
    capsys.readouterr()
    assert verify("--gates", "gates.toml", "--force") == 2 and "gates.toml" in one_line(capsys)


def test_unverified_bundle_is_used_and_the_run_says_so() -> None:
    assert inspect() == 0
    assert json.loads(Path("out/verdicts.jsonl").read_text().splitlines()[0])["acceptance"] == "not verified"
    assert "verification: not verified" in Path("out/report.html").read_text()


def test_unknown_bundle_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["info", "no-such-model"]) == 2
    assert "no-such-model is not a folder" in one_line(capsys)


def test_stop_keeps_what_was_made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plain, seen = ScriptedEngine.encode, []

    def encode(engine: ScriptedEngine, patches: np.ndarray) -> Encoded:
        seen.append(1)
        if len(seen) == 5:  # the first photo, three references, the second photo
            raise KeyboardInterrupt
        return plain(engine, patches)

    monkeypatch.setattr(ScriptedEngine, "encode", encode)
    assert inspect() == 130
    assert 1 <= len(verdicts()) < 3 and "The run was stopped" in Path("out/report.html").read_text()


def test_fault_of_an_engine_is_in_the_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.scripted.engine_from_bundle", lambda *_: ScriptedEngine(red_means_bad, broken="decode"))
    assert inspect() == 3
    assert set(verdicts().values()) == {"NOT_DECIDABLE"}


def test_info_shows_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "bundle"]) == 0
    assert "embedding.bin" in capsys.readouterr().out


def test_enroll_again_is_said_and_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enroll", "--part", "lid", "good"]) == 0
    assert capsys.readouterr().out.count("was enrolled already") == 3
    Path("good/bad.png").write_text("no photo")
    assert main(["enroll", "--part", "lid", "good"]) == 2
    assert "bad.png" in capsys.readouterr().err


def test_enroll_lists_and_retires(capsys: pytest.CaptureFixture[str]) -> None:
    first = next(Path("references/lid").glob("*.json")).stem
    assert main(["enroll", "--part", "lid", "--retire", first]) == 0
    assert "lid: 2 references" in capsys.readouterr().out
    assert main(["enroll", "--part", "lid", "--list"]) == 0
    assert capsys.readouterr().out.count("in use") == 2
    assert main(["enroll", "--part", "lid"]) == 2


def test_enroll_shows_and_sets_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enroll", "--part", "lid", "--set", "align=features", "--set", "max_references=2"]) == 0
    capsys.readouterr()
    assert main(["enroll", "--part", "lid", "--list"]) == 0
    shown = capsys.readouterr().out
    assert "align = features" in shown and "max_references = 2" in shown and "reasoning = always" in shown
    assert main(["enroll", "--part", "lid", "--set", "align=sideways"]) == 2
    assert "align = 'sideways'" in one_line(capsys)


def test_evaluate_counts_and_writes_json(capsys: pytest.CaptureFixture[str]) -> None:
    labelled_set()
    assert main(["evaluate", "bundle", "items.csv", "--json", "figures.json"]) == 0
    content = json.loads(Path("figures.json").read_text())
    assert all(set(content[name]) == {"value", "low", "high"} for name in FIGURES)
    assert content["image_auroc"]["value"] == content["recall"]["value"] == content["specificity"]["value"] == 1.0
    # Marked (2,3), (2,4), (3,4); the mask covers rows 4-7 and columns 10-20: cells (2,3) to (2,5), and 2 % of row 3.
    truth = {(2, 3), (2, 4), (2, 5), (3, 3), (3, 4), (3, 5)}
    hits = len(truth & {(2, 3), (2, 4), (3, 4)})
    assert content["cell_f1"]["value"] == pytest.approx(2 * hits / (3 + len(truth)))
    assert content["counts"]["items"] == 3 and content["invalid"]["value"] == 0.0
    assert content["cell_score"] == "marked cells (1 or 0)"
    capsys.readouterr()
    assert main(["evaluate", "bundle", "items.csv", "--json", "figures.json"]) == 2
    assert "figures.json exists already" in one_line(capsys)


def test_evaluate_counts_an_unreadable_item_as_wrong() -> None:
    labelled_set()
    Path("photos/p0.png").write_text("gone")
    assert main(["evaluate", "bundle", "items.csv", "--json", "figures.json"]) == 0
    content = json.loads(Path("figures.json").read_text())
    assert content["specificity"]["value"] == 0.5 and content["invalid"]["value"] == pytest.approx(1 / 3)
    assert content["image_auroc"]["value"] == 0.5 and content["counts"]["invalid"] == 1


def test_evaluate_without_masks_leaves_cells_undefined() -> None:
    save_photo(Path("photos/q.png"), 250)
    rows = [
        (f"photos/{name}.png", label, "accept", "", "good/g0.png", "")
        for name, label in (("q", "defect"), ("p0", "good"))
    ]
    write_items(rows)
    assert main(["evaluate", "bundle", "items.csv", "--json", "figures.json"]) == 0
    content = json.loads(Path("figures.json").read_text())
    for name in ("cell_auroc", "cell_f1"):  # a good item alone says nothing about cells
        assert content[name] == {"value": None, "low": None, "high": None}
    assert content["recall"]["value"] == 1.0


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (("photos/p0.png", "fine", "accept", "", "", ""), "line 2: label 'fine'"),
        (("photos/p0.png", "good", "test", "", "", ""), "line 2: split 'test'"),
        (("photos/p9.png", "good", "accept", "", "", ""), "line 2: image 'photos/p9.png' is not a file"),
        (("photos/p0.png", "good", "accept", "", "", "mask.png"), "line 2: a good item with a mask"),
        (("photos/p0.png", "good", "accept"), "line 2: wrong number of fields"),
        (("", "good", "accept", "", "", ""), "line 2: image is empty"),
        (("photos/p0.png", "good", "accept", "", "", ""), "line 2: no reference"),
    ],
)
def test_evaluate_names_the_line(row: tuple[str, ...], found: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_items([row])
    capsys.readouterr()
    assert main(["evaluate", "bundle", "items.csv"]) == 2
    assert found in one_line(capsys)


def test_usage_error_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.unit.runtime.test_outputs import full_disk

    capsys.readouterr()
    with full_disk(1200):
        assert inspect() == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("judo-edge: cannot write out/") and "Traceback" not in error
    assert all(json.loads(text) for text in Path("out/verdicts.jsonl").read_text().splitlines())


EVALUATOR = """
import torch_that_is_not_there


def make_system_prompt(patch_rows, patch_cols):
    return f"Mark defects on {patch_rows} by {patch_cols} cells.\\n"
"""


def test_prompt_import_writes_a_profile(capsys: pytest.CaptureFixture[str]) -> None:
    Path("evaluator.py").write_text(EVALUATOR)
    command = ["prompt", "import", "evaluator.py", "--grid", "16", "--out", "profile.toml"]
    capsys.readouterr()
    assert main(command) == 2
    assert "SHA-256" in one_line(capsys) and not Path("profile.toml").exists()
    assert main([*command, "--allow-other"]) == 0
    profile = load_profile(Path("profile.toml"))
    assert profile.system == "Mark defects on 16 by 16 cells.\n" and profile.prefix == "\n"
    capsys.readouterr()
    assert main([*command, "--allow-other"]) == 2
    assert "profile.toml exists already" in one_line(capsys)
    assert main([*command, "--allow-other", "--force", "--prefix-n"]) == 0
    assert load_profile(Path("profile.toml")).prefix == "n"


def test_fault_of_our_own_is_one_line_without_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("judo_edge.shipped.bundle_from_name", broken)
    capsys.readouterr()
    assert main(["info", "bundle"]) == 70
    assert "KeyError" in one_line(capsys)
    monkeypatch.setenv("JUDO_EDGE_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["info", "bundle"])


def test_stream_tells_what_becomes_known_of_each_photo(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect("--stream") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    by_frame = {name: [line for line in lines if line["frame_id"].startswith(name)] for name in ("p0", "p1", "p2")}
    for events in by_frame.values():
        assert events[0]["event"] == "verdict?" and events[-1]["event"] == "verdict"
        assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)
    assert [events[-1]["value"] for events in by_frame.values()] == ["OK", "NOK", "OK"]
    (mask,) = [event["value"] for event in by_frame["p1"] if event["event"] == "mask"]
    assert mask["cells"] == [[2, 3], [2, 4], [3, 4]]
