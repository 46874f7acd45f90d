"""The folder of a run: `verdicts.jsonl`, `masks/` and `report.html`.

Each frame's mask is written first and its line last, so a line never names a file that is not there. The report is
made from what was inspected, also when the run was stopped.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType

from judo_edge.core import Frame
from judo_edge.errors import OutputError
from judo_edge.files import output_errors
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.masks import write_mask
from judo_edge.runtime.records import VerdictLog, record_from_verdict
from judo_edge.runtime.report import Report, RunFacts
from judo_edge.runtime.sources.folder import Unreadable

LOG_NAME, MASKS_NAME, REPORT_NAME = "verdicts.jsonl", "masks", "report.html"


class RunOutput:
    """What a run leaves on the disk; opened by `with`."""

    def __init__(self, folder: Path, facts: RunFacts, force: bool = False) -> None:
        """Name the folder; nothing is touched before entry."""
        self.folder = folder
        self._force, self._acceptance = force, facts.acceptance
        self._log = VerdictLog(folder / LOG_NAME)
        self._report = Report(folder / REPORT_NAME, facts)

    @property
    def report_path(self) -> Path:
        """Return where the report is."""
        return self.folder / REPORT_NAME

    def __enter__(self) -> RunOutput:
        """Make the folder; OutputError when it exists and may not be replaced."""
        check_run_folder(self.folder, self._force)
        with output_errors(self.folder):
            if self.folder.exists():
                _clear(self.folder)
            (self.folder / MASKS_NAME).mkdir(parents=True)
        self._log.__enter__()
        return self

    def add(self, item: Frame | Unreadable, inspection: Inspection) -> None:
        """Keep one frame's outcome; when this returns, its verdict is on the disk."""
        verdict, mask_file = inspection.verdict, None
        if isinstance(item, Frame) and (marked := inspection.marked) is not None:
            name = write_mask(self.folder / MASKS_NAME, verdict.frame_id, marked, item.image)
            mask_file = f"{MASKS_NAME}/{name}"
        self._log.append({**record_from_verdict(verdict, mask_file), "acceptance": self._acceptance})
        self._report.add(item, inspection)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the log and write the report, unless the disk is what failed."""
        self._log.__exit__(kind, error, trace)
        with self._report:
            if not isinstance(error, OutputError):
                self._report.write(interrupted=error is not None)


def check_run_folder(folder: Path, force: bool) -> None:
    """Raise OutputError unless a run may write here: absent, or with `force` an earlier run or an empty folder."""
    if not (folder.exists() or folder.is_symlink()):
        return
    if not force:
        raise OutputError(f"{folder} exists already", action="pass --force to replace it, or choose another folder")
    if folder.is_symlink() or not folder.is_dir():
        raise OutputError(f"{folder} is not a folder", action="choose another folder")
    if any(folder.iterdir()) and not (folder / LOG_NAME).is_file():
        found = f"{folder} is not the output of a run, so --force does not replace it"
        raise OutputError(found, action="choose another folder")


def _clear(folder: Path) -> None:
    """Remove what an earlier run made; files of others stay."""
    for name in (LOG_NAME, REPORT_NAME):
        (folder / name).unlink(missing_ok=True)
    if (folder / MASKS_NAME).exists():
        shutil.rmtree(folder / MASKS_NAME)
