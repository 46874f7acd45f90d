"""An interrupted export goes on where it stopped and gives the same bytes; what does not fit is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from judo_edge.bundle import open_bundle
from judo_edge.cli import main
from judo_edge.errors import CheckpointError, OutputError
from judo_edge.export import resume
from judo_edge.export.lora import MergedWeights
from judo_edge.export.pipeline import ExportProgress, export_bundle
from judo_edge.export.resume import WorkFolder, check_work, read_journal, remaining_note, work_folder
from tests.checkpoints import complete_checkpoint
from tests.disks import file_size_limit, small_disk
from tests.traced_once import graphs_traced_once

INPUTS = {"checkpoint": "a", "recipe": "b"}

CHILD = """
import os, sys
from judo_edge.cli import main
from judo_edge.export import resume
resume.SYNC_BYTES, sync, left = 1, resume.WorkFolder.sync, [int(sys.argv[1])]
def counted(self):
    sync(self)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), int(sys.argv[2]))
resume.WorkFolder.sync = counted
sys.exit(main(sys.argv[3:]))
"""
"""The command line, sent a signal by itself after so many lines of the journal."""


@pytest.fixture(scope="module", autouse=True)
def same_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, graphs_traced_once():
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_checkpoint(tmp_path_factory.mktemp("ck") / "tiny", shards=3)


@pytest.fixture(scope="module")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path_factory.mktemp("whole") / "out")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stopped_child(checkpoint: Path, out: Path, lines: int, number: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, str(lines), str(number), "export", str(checkpoint), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def resumed(checkpoint: Path, out: Path) -> int:
    """Go on with an export; return the bytes that were not written again."""
    seen: list[ExportProgress] = []
    export_bundle(checkpoint, recipe="cpu-int8", out=out, progress=seen.append)
    assert not work_folder(out).exists()
    wrote = [item for item in seen if item.total and item.step not in ("source", "hashing")]
    return min((item.done for item in wrote), default=seen[-1].total)


def test_killed_export_goes_on_to_the_same_bytes(checkpoint: Path, whole: Path, tmp_path: Path) -> None:
    lines = random.Random(os.getpid()).randrange(2, 60)
    child = stopped_child(checkpoint, tmp_path / "out", lines, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL, (lines, child.stderr)
    journal = read_journal(work_folder(tmp_path / "out"))
    assert journal and 0 < journal.done < journal.total, lines
    assert resumed(checkpoint, tmp_path / "out") >= journal.done
    assert contents(tmp_path / "out") == contents(whole), lines


def test_terminated_export_says_how_to_go_on(checkpoint: Path, whole: Path, tmp_path: Path) -> None:
    child = stopped_child(checkpoint, tmp_path / "out", 10, signal.SIGTERM)
    assert child.returncode == 143
    (line,) = child.stderr.splitlines()[-1:]
    assert line.startswith("judo-edge: stopped by SIGTERM; the same command goes on from 0.00 of 0.00 GB in ")
    assert not (tmp_path / "out").exists() and "Traceback" not in child.stderr
    assert resumed(checkpoint, tmp_path / "out") > 0
    assert contents(tmp_path / "out") == contents(whole)


def test_ctrl_c_in_the_command_line_keeps_the_work(
    checkpoint: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sync = WorkFolder.sync

    def interrupted(self: WorkFolder) -> None:
        sync(self)
        if self.journal.done > self.journal.total // 2:
            monkeypatch.undo()
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(resume, "SYNC_BYTES", 1)
    monkeypatch.setattr(WorkFolder, "sync", interrupted)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    before = signal.getsignal(signal.SIGINT)
    command = ["export", str(checkpoint), "--out", str(tmp_path / "out")]
    assert main(command) == 130 and signal.getsignal(signal.SIGINT) is before
    assert "stopped by SIGINT; the same command goes on" in capsys.readouterr().err
    os.environ["SOURCE_DATE_EPOCH"] = "1800000000"  # the date is that of the beginning
    try:
        assert main(command) == 0
    finally:
        os.environ["SOURCE_DATE_EPOCH"] = "1700000000"
    assert contents(tmp_path / "out") == contents(whole)


def interrupted_export(checkpoint: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop an export in its decoder."""

    def stop(item: ExportProgress) -> None:
        if item.step == "decoder" and item.done > item.total * 0.8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(resume, "SYNC_BYTES", 1)
        export_bundle(checkpoint, recipe="cpu-int8", out=out, progress=stop)
    assert remaining_note(out)


def test_other_inputs_are_refused_until_restart(
    checkpoint: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    interrupted_export(checkpoint, out, monkeypatch)
    begun = contents(work_folder(out) / "bundle")
    with pytest.raises(OutputError, match=r"out\.partial holds an unfinished export with other recipe; .*--restart"):
        export_bundle(checkpoint, recipe="cpu-fp32", out=out)
    shard = sorted(checkpoint.glob("*.safetensors"))[0]
    state = shard.stat()
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    try:
        with pytest.raises(OutputError, match=r"with other checkpoint; "):
            export_bundle(checkpoint, recipe="cpu-int8", out=out)
    finally:
        os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert contents(work_folder(out) / "bundle") == begun
    export_bundle(checkpoint, recipe="cpu-fp32", out=out, restart=True)
    assert open_bundle(out).manifest.recipe["name"] == "cpu-fp32" and list(tmp_path.iterdir()) == [out]


def test_error_of_the_checkpoint_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = MergedWeights.rows

    def broken(self: MergedWeights, name: str, start: int, stop: int) -> object:
        if name.startswith("model.layers.1."):
            raise CheckpointError(f"{name} holds values that are not finite")
        return rows(self, name, start, stop)

    monkeypatch.setattr(resume, "SYNC_BYTES", 1)
    monkeypatch.setattr(MergedWeights, "rows", broken)
    with pytest.raises(CheckpointError, match="not finite"):
        export_bundle(checkpoint, recipe="cpu-int8", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_no_loss(checkpoint: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from judo_edge.export import preflight

    size = sum(path.stat().st_size for path in whole.iterdir())
    with small_disk(tmp_path, size + 400_000) as disk:
        other = disk / "other"
        other.write_bytes(bytes(700_000))
        with pytest.raises(OutputError, match=r"has 0\.00 GB free; wanted: 0\.02 GB for out"):
            export_bundle(checkpoint, recipe="cpu-int8", out=disk / "out")
        monkeypatch.setattr(preflight, "MARGIN_BYTES", -(1 << 30))  # another program fills the disk meanwhile
        monkeypatch.setattr(resume, "SYNC_BYTES", 1)
        with pytest.raises(OutputError, match=r"the disk is full; do: free space.*; the same command goes on from"):
            export_bundle(checkpoint, recipe="cpu-int8", out=disk / "out")
        assert not (disk / "out").exists()
        other.unlink()
        assert resumed(checkpoint, disk / "out") > 0
        assert contents(disk / "out") == contents(whole)


def begun_folder(out: Path) -> None:
    """Leave a work folder with one complete form."""
    with pytest.raises(KeyboardInterrupt), WorkFolder(out, INPUTS, "then", 100) as work:
        (work.bundle / "data").write_bytes(b"abc")
        work.completed("data")(1, 60)
        raise KeyboardInterrupt


def test_journal_outlives_a_torn_line(tmp_path: Path) -> None:
    begun_folder(tmp_path / "out")
    path = work_folder(tmp_path / "out") / "journal.jsonl"
    with path.open("ab") as file:
        file.write(b'{"file": "data", "forms": 7')
    with pytest.raises(KeyboardInterrupt), WorkFolder(tmp_path / "out", INPUTS, "now", 100) as work:
        assert (work.forms_of("data"), work.journal.done, work.journal.created) == (1, 60, "then")
        work.note_hash("shard", "00")
        work.completed("data")(2, 10)
        raise KeyboardInterrupt
    journal = read_journal(work_folder(tmp_path / "out"))
    assert journal and (journal.written, journal.done, journal.hashes) == ({"data": 2}, 70, {"shard": "00"})
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_line_that_a_full_disk_cuts_off_is_taken_back(tmp_path: Path) -> None:
    begun_folder(tmp_path / "out")
    path = work_folder(tmp_path / "out") / "journal.jsonl"
    size = path.stat().st_size
    full = pytest.raises(OutputError, match="the file would exceed")
    with full, file_size_limit(size + 10), WorkFolder(tmp_path / "out", INPUTS, "now", 100) as work:
        with pytest.raises(OSError):
            work.note_hash("shard", "00")
        assert path.stat().st_size == size and not work.journal.hashes
        work.completed("data")(2, 10)
        work.sync()
    assert path.stat().st_size == size and "from 0.00 of" in remaining_note(tmp_path / "out")


def test_nothing_complete_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), WorkFolder(tmp_path / "out", INPUTS, "then", 100):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [] and remaining_note(tmp_path / "out") == ""


def test_two_exports_of_one_target_do_not_mix(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with WorkFolder(out, INPUTS, "then", 100):
        with pytest.raises(OutputError, match=r"another export writes \S*out\.partial"):
            check_work(out, INPUTS, restart=True)
        with pytest.raises(OutputError, match="another export"), WorkFolder(out, INPUTS, "then", 100):
            pass
        assert work_folder(out).is_dir()
    assert not work_folder(out).exists()


def test_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    folder = work_folder(tmp_path / "out")
    folder.mkdir()
    (folder / "thesis.txt").write_text("x")
    with (
        pytest.raises(OutputError, match="is not the work folder of an export"),
        WorkFolder(tmp_path / "out", INPUTS, "then", 100, restart=True),
    ):
        pass
    assert (folder / "thesis.txt").read_text() == "x"
