"""A whole run: the same bytes twice and after an interruption, nothing lost, nothing overwritten unasked."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judo_edge.calibration import open_calibration, run
from judo_edge.calibration.file import ERROR_FORMS, TOKEN_KINDS, Settings
from judo_edge.calibration.run import CalibrationProgress, calibrate
from judo_edge.calibration.samples import PairSet
from judo_edge.calibration.steps import Subject
from judo_edge.errors import CheckpointError, InputError, OutputError

SMALL = Settings(search_tokens=30, error_tokens=20, sensitivity_samples=1)
FILES = ("calibration.json", "calibration.safetensors", "sensitivity.svg")


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def finished(subject: Subject, chosen: PairSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "calibration"
    calibrate(subject, chosen, out, SMALL)
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "calibration"))


def stop_at(step: str) -> Callable[[CalibrationProgress], None]:
    def progress(state: CalibrationProgress) -> None:
        if state.step == step:
            raise KeyboardInterrupt

    return progress


def test_folder_holds_three_files_and_no_leftovers(finished: Path) -> None:
    assert tuple(sorted(path.name for path in finished.iterdir())) == FILES
    assert [path.name for path in finished.parent.iterdir()] == ["calibration"]


def test_the_same_run_gives_the_same_bytes(finished: Path, subject: Subject, chosen: PairSet, tmp_path: Path) -> None:
    calibrate(subject, chosen, tmp_path / "again", SMALL)
    assert hashes(tmp_path / "again") == hashes(finished)


def test_another_seed_gives_other_bytes(finished: Path, subject: Subject, chosen: PairSet, tmp_path: Path) -> None:
    other = calibrate(subject, chosen, tmp_path / "other", SMALL.model_copy(update={"seed": 1}))
    assert other.digest != open_calibration(finished).digest


@pytest.mark.parametrize("step", ["visual.blocks.1", "model.layers.1: whole", "lm_head"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    step: str, finished: Path, subject: Subject, chosen: PairSet, tmp_path: Path
) -> None:
    out = tmp_path / "calibration"
    with pytest.raises(KeyboardInterrupt):
        calibrate(subject, chosen, out, SMALL, progress=stop_at(step))
    assert not out.exists() and (tmp_path / "calibration.partial").is_dir()
    seen: list[CalibrationProgress] = []
    calibrate(subject, chosen, out, SMALL, progress=seen.append)
    assert hashes(out) == hashes(finished)
    assert seen[0].step == "finished before" and "photos" not in {state.step for state in seen}
    assert seen[-1].done == seen[-1].total
    assert [path.name for path in tmp_path.iterdir()] == ["calibration"]


def test_work_of_other_inputs_is_thrown_away(finished: Path, subject: Subject, chosen: PairSet, tmp_path: Path) -> None:
    out = tmp_path / "calibration"
    with pytest.raises(KeyboardInterrupt):
        calibrate(subject, chosen, out, SMALL.model_copy(update={"seed": 5}), progress=stop_at("model.layers.0"))
    seen: list[CalibrationProgress] = []
    calibrate(subject, chosen, out, SMALL, progress=seen.append)
    assert seen[0].step == "photos" and hashes(out) == hashes(finished)


def test_only_two_sets_of_hidden_states_are_on_the_disk(subject: Subject, chosen: PairSet, tmp_path: Path) -> None:
    counts: list[int] = []
    folder = tmp_path / "calibration.partial"
    calibrate(
        subject, chosen, tmp_path / "calibration", SMALL,
        progress=lambda _: counts.append(len(list(folder.glob("hidden-*")))),
    )  # fmt: skip
    assert max(counts) == 2


def test_an_existing_output_is_kept_unless_forced(copy: Path, subject: Subject, chosen: PairSet) -> None:
    before = hashes(copy)
    with pytest.raises(OutputError, match="exists already"):
        calibrate(subject, chosen, copy, SMALL)
    assert hashes(copy) == before
    calibrate(subject, chosen, copy, SMALL.model_copy(update={"seed": 2}), force=True)
    assert hashes(copy) != before and open_calibration(copy).file.provenance.settings.seed == 2


def test_force_replaces_calibrations_only(subject: Subject, chosen: PairSet, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not a calibration"):
        calibrate(subject, chosen, tmp_path / "mine", SMALL, force=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_two_runs_do_not_share_a_folder(subject: Subject, chosen: PairSet, tmp_path: Path) -> None:
    folder = tmp_path / "calibration.partial"
    folder.mkdir()
    with (folder / "key").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="in use by another run"):
            calibrate(subject, chosen, tmp_path / "calibration", SMALL)


def test_a_full_disk_is_noticed_before_the_first_weight(
    subject: Subject, chosen: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    seen: list[Any] = []
    with pytest.raises(OutputError, match="for hidden states"):
        calibrate(subject, chosen, tmp_path / "calibration", SMALL, progress=seen.append)
    assert not seen


def test_a_disk_that_fills_up_is_one_line_and_loses_nothing(
    finished: Path, subject: Subject, chosen: PairSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = os.pwrite

    def full(handle: int, data: Any, place: int) -> int:
        if "hidden-004" in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(handle, data, place)

    monkeypatch.setattr("judo_edge.calibration.scratch.os.pwrite", full)
    with pytest.raises(OutputError, match="the disk is full"):
        calibrate(subject, chosen, tmp_path / "calibration", SMALL)
    monkeypatch.undo()
    calibrate(subject, chosen, tmp_path / "calibration", SMALL)
    assert hashes(tmp_path / "calibration") == hashes(finished)


def test_a_missing_tensor_is_named_and_finished_parts_stay(subject: Subject, chosen: PairSet, tmp_path: Path) -> None:
    class Torn:
        def rows(self, name: str, start: int, stop: int) -> Any:
            if name.startswith("model.layers.1.mlp.up"):
                raise CheckpointError(f"no tensor {name}")
            return subject.weights.rows(name, start, stop)

    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        calibrate(replace(subject, weights=Torn()), chosen, tmp_path / "calibration", SMALL)
    assert not (tmp_path / "calibration").exists()
    assert list((tmp_path / "calibration.partial").glob("006.json"))  # layer 0


def test_what_was_done_is_written_down(finished: Path, chosen: PairSet, subject: Subject) -> None:
    file = open_calibration(finished).file
    told = file.provenance
    assert told.source == subject.source and told.split == "train" and told.settings == SMALL
    assert [entry.sha256 for entry in told.samples] == [pair.query.sha256 for pair in chosen.pairs]
    assert {entry.label for entry in told.samples} == {"good", "defect"}
    assert told.checked_against == 2 and told.photos == len(chosen.photos)
    assert set(told.tokens) == set(TOKEN_KINDS) and told.tools["torch"]
    assert str(finished.parent) not in (finished / "calibration.json").read_text()


def test_layers_and_linears_are_measured_in_every_form(finished: Path) -> None:
    file = open_calibration(finished).file
    names = [f"visual.blocks.{i}" for i in range(3)] + ["visual.merger", "model.layers.0", "model.layers.1", "lm_head"]
    assert [layer.name for layer in file.layers] == names
    for entry in (*file.linears, *file.layers):
        errors = entry.errors if hasattr(entry, "errors") else entry.output_errors
        assert set(errors) == set(ERROR_FORMS)
        assert 0 < errors["int8-channel"] < errors["int8-static"] < 0.2 and errors["int4-block"] > 0.03
    for layer in file.layers[4:6]:
        assert all(layer.update_errors[form] > layer.output_errors[form] for form in ERROR_FORMS)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match=r"changed after it was written|calibration file"):
        open_calibration(copy)


def test_a_friendlier_number_is_refused(copy: Path) -> None:
    path = copy / "calibration.json"
    text = path.read_text()
    assert '"seed": 0' in text
    path.write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(InputError, match="changed after it was written"):
        open_calibration(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(InputError, match=name):
        open_calibration(copy)


def test_a_calibration_of_other_weights_is_refused(finished: Path, subject: Subject) -> None:
    calibration = open_calibration(finished)
    calibration.check_source(subject.source.digest)
    with pytest.raises(InputError, match="made from other weights"):
        calibration.check_source("0" * 64)
    with pytest.raises(InputError, match="made from other weights"):
        calibration.check_source(subject.source.digest, ("1" * 64,))


def test_second_moments_are_absent_unless_asked_for(finished: Path) -> None:
    calibration = open_calibration(finished)
    assert calibration.gram("model.layers.0.mlp.up_proj.weight") is None
    assert calibration.gram("no such weight") is None


def test_arrays_belong_to_the_caller(finished: Path) -> None:
    calibration = open_calibration(finished)
    first = calibration.linear("model.layers.0.mlp.up_proj.weight")
    assert first is not None
    first.smooth[:] = 0
    again = calibration.linear("model.layers.0.mlp.up_proj.weight")
    assert again is not None and np.all(again.smooth > 0)
