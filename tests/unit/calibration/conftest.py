"""A tiny checkpoint with a labelled set of drawn pairs, and its opened parts."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from judo_edge.calibration.file import Settings
from judo_edge.calibration.job import Job
from judo_edge.calibration.samples import Choice, PairSet, pairs_from_csv
from judo_edge.calibration.steps import Subject
from judo_edge.cli.calibrating import subject_from_checkpoint
from tests.checkpoints import complete_checkpoint
from tests.unit.calibration.photos import write_items

SIDE = 84
"""Pixels: three visual tokens a side, which are no multiple of the window of two."""
SETTINGS = Settings(search_tokens=60, error_tokens=30, gram=True)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_checkpoint(tmp_path_factory.mktemp("calibration") / "tiny", SIDE, window_size=56)


@pytest.fixture(scope="session")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_items(tmp_path_factory.mktemp("items"), good=6, defects=5)


@pytest.fixture(scope="session")
def subject(checkpoint: Path) -> Subject:
    return subject_from_checkpoint(str(checkpoint), [], None)


@pytest.fixture(scope="session")
def chosen(items: Path) -> PairSet:
    return pairs_from_csv(items, (16, 16), Choice(minimum=8, held_out=0.34))


@pytest.fixture(scope="session")
def job(subject: Subject, chosen: PairSet) -> Job:
    return Job.of(subject, chosen, SETTINGS)
